// Every limit of the protocol, in one place. docs/protocol.md lists them for clients in other languages.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sirocco::wire {

inline constexpr std::uint16_t kProtocolVersion = 1;

// Frames
inline constexpr std::size_t kHeaderBytes = 16;
inline constexpr std::uint32_t kMaxHelloPayload = 64 * 1024;   // before the handshake
inline constexpr std::uint32_t kMaxPayload = 4 * 1024 * 1024;  // after it

// FlatBuffers verifier
inline constexpr std::uint32_t kVerifierDepth = 8;
inline constexpr std::uint32_t kVerifierTables = 1024;
// Strings and tables of a FlatBuffer may share bytes, so that a small frame could describe gigabytes: what a message
// copies out of its frame is bounded by this, whatever the frame says.
inline constexpr std::size_t kMaxDecodedBytes = std::size_t{2} * kMaxPayload;

// Text, in bytes of UTF-8
inline constexpr std::size_t kMaxTextBytes = 4'000'000;     // a prompt, or a conversation with its tools, in all
inline constexpr std::size_t kMaxTokenizeBytes = 900'000;   // so that the ids, one a byte at most, fit a frame
inline constexpr std::size_t kMaxNameBytes = 256;           // names of models, tools, stop strings, …
inline constexpr std::size_t kMaxClientBytes = 64;          // Hello.client
inline constexpr std::size_t kMaxKeyBytes = 128;            // session and latest_wins_key
inline constexpr std::size_t kMaxPathBytes = 4095;          // Reload.model; PATH_MAX without its zero
inline constexpr std::size_t kMaxMessageBytes = 16 * 1024;  // Error.message, reasons, notes

// Counts
inline constexpr std::size_t kMaxIds = 1'000'000;  // token ids in a message
inline constexpr std::size_t kMaxDetokenizeIds = 65'536;
inline constexpr std::size_t kMaxChatMessages = 512;
inline constexpr std::size_t kMaxToolCalls = 256;  // of a whole conversation
inline constexpr std::size_t kMaxStops = 16;
inline constexpr std::size_t kMaxLogitBias = 1024;
inline constexpr std::size_t kMaxFeatures = 64;
inline constexpr std::size_t kMaxReasons = 16;
inline constexpr std::size_t kMaxMemoryItems = 64;
inline constexpr std::size_t kMaxActiveRequests = 256;
inline constexpr std::size_t kMaxLayers = 512;
inline constexpr std::size_t kMaxSessions = 512;  // in a report

// Ranges
inline constexpr float kMaxTemperature = 100;
inline constexpr float kMaxPenalty = 100;
inline constexpr float kMaxLogitShift = 1000;
inline constexpr std::uint32_t kMaxGenerateTokens = 1U << 30;
inline constexpr std::uint32_t kMaxDeadlineMs = 24U * 60 * 60 * 1000;

}  // namespace sirocco::wire
