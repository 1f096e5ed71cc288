// The C interface of Sirocco: talk to siroccod from C, or from any language that can call C. docs/clients.md begins
// with an example. C99, and C++ as well; link with libsirocco (pkg-config sirocco).
//
// Handles. A sirocco_client is one connection, and one answer at a time comes over it: for several at once connect
// several clients. What a call hands out (events, status, texts, ids, messages) is the client's and stays valid until
// the next call with the same client, sirocco_cancel() and the sirocco_error_...() functions apart.
//
// Threads. Different clients may be used by different threads at once, one client by one thread at a time. The
// exception is sirocco_cancel(), which any thread and any signal handler may call while a client is connected.
//
// Errors. Calls return SIROCCO_OK or another sirocco_code; sirocco_error_message() then says what happened, where, and
// what to do. No call raises a signal or prints.
//
// Growth. A struct that a program fills begins with its size: set it to sizeof, and all that is not needed to 0, which
// always means the default (with designated initialisers: sirocco_request request = {.size = sizeof(request), ...}).
// Structs that the library hands out begin with their size, too. So both may grow while programs stay as they are.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SIROCCO_API __attribute__((visibility("default")))
#else
#define SIROCCO_API
#endif

// Grows when something is added to this file. Programs of an older one go on working.
#define SIROCCO_API_VERSION 1

SIROCCO_API int sirocco_api_version(void);      // of the library, to be compared with SIROCCO_API_VERSION
SIROCCO_API const char* sirocco_version(void);  // of the library: "0.1.0"

// What a call returns: 0, what the client noticed itself (below 100), or the code of the daemon's Error, with the
// numbers of the protocol. Later daemons may send others.
typedef enum sirocco_code {
  SIROCCO_OK = 0,
  SIROCCO_NO_DAEMON = 1,      // nobody listens at the socket
  SIROCCO_NO_PERMISSION = 2,  // the socket may not be opened
  SIROCCO_NO_ANSWER = 3,      // the daemon did not answer in time
  SIROCCO_DISCONNECTED = 4,   // the daemon went away, or sirocco_connect() was not called: connect again
  SIROCCO_BAD_PROTOCOL = 5,   // what came is not Sirocco's protocol
  SIROCCO_INVALID = 6,        // what was asked for is not allowed; nothing was sent
  SIROCCO_GAVE_UP = 7,        // cancelled a second time before the daemon had answered: connect again
  SIROCCO_SYSTEM = 8,         // the operating system failed us
  SIROCCO_NO_MEMORY = 9,

  SIROCCO_MALFORMED = 100,
  SIROCCO_FRAME_TOO_LARGE = 101,
  SIROCCO_UNKNOWN_TYPE = 102,
  SIROCCO_INVALID_MESSAGE = 103,
  SIROCCO_UNEXPECTED_MESSAGE = 104,
  SIROCCO_VERSION_MISMATCH = 105,
  SIROCCO_TIMEOUT = 106,
  SIROCCO_DUPLICATE_REQUEST = 107,
  SIROCCO_INVALID_ARGUMENT = 200,
  SIROCCO_NOT_FOUND = 201,
  SIROCCO_PERMISSION_DENIED = 202,
  SIROCCO_UNSUPPORTED = 203,
  SIROCCO_CONTEXT_OVERFLOW = 204,
  SIROCCO_DEADLINE = 205,
  SIROCCO_BUSY = 300,
  SIROCCO_TOO_MANY_CONNECTIONS = 301,
  SIROCCO_TOO_MANY_REQUESTS = 302,
  SIROCCO_SLOW_CONSUMER = 303,
  SIROCCO_OUT_OF_MEMORY = 304,
  SIROCCO_SHUTTING_DOWN = 400,
  SIROCCO_NO_MODEL = 401,
  SIROCCO_INTERNAL = 500,
  SIROCCO_CORRUPT = 501,
  SIROCCO_IO = 502,
  SIROCCO_DEVICE_FAILED = 503
} sirocco_code;

// --- connection

typedef struct sirocco_client sirocco_client;

// Not connected yet. NULL: no memory.
SIROCCO_API sirocco_client* sirocco_new(void);
// Ends the connection, and with it what is under way, and frees the client. NULL is allowed.
SIROCCO_API void sirocco_free(sirocco_client* client);

typedef struct sirocco_connect_options {
  size_t size;
  const char* socket;   // NULL: $SIROCCO_SOCKET, else /run/sirocco/sirocco.sock
  const char* name;     // of the program, for the daemon's log; at most 64 bytes. NULL: "libsirocco"
  uint32_t timeout_ms;  // for connecting, and for each message sent; 0: 5000
  uint32_t
      answer_timeout_ms;  // for the answer to everything but sirocco_generate(), which may wait for a step; 0: 30000
} sirocco_connect_options;

// Connects and shakes hands. `options` may be NULL. A client that is connected is disconnected first, so this is also
// how to connect again.
SIROCCO_API int sirocco_connect(sirocco_client* client, const sirocco_connect_options* options);

// About the last call with this client that failed: 0 and "" if none has.
SIROCCO_API int sirocco_error_code(const sirocco_client* client);
SIROCCO_API const char* sirocco_error_message(const sirocco_client* client);
// When another try makes sense, in milliseconds; 0: trying again changes nothing.
SIROCCO_API uint32_t sirocco_error_retry_after_ms(const sirocco_client* client);
// "BUSY": the name of a sirocco_code; "" for a number that this library does not know.
SIROCCO_API const char* sirocco_code_name(int code);

// --- answers

typedef enum sirocco_role {
  SIROCCO_ROLE_SYSTEM = 1,
  SIROCCO_ROLE_USER,
  SIROCCO_ROLE_ASSISTANT,
  SIROCCO_ROLE_TOOL
} sirocco_role;

typedef enum sirocco_priority { SIROCCO_BATCH = 1, SIROCCO_INTERACTIVE, SIROCCO_REALTIME } sirocco_priority;

typedef enum sirocco_done_reason {
  SIROCCO_STOP_TOKEN = 1,
  SIROCCO_STOP_STRING,
  SIROCCO_MAX_TOKENS,
  SIROCCO_CONTEXT_FULL,
  SIROCCO_CANCELLED,
  SIROCCO_DEADLINE_REACHED,  // of a `partial` request
  SIROCCO_SUPERSEDED         // a newer request of this user had the same latest_wins_key
} sirocco_done_reason;

// The three structs below do not grow.
typedef struct sirocco_tool_call {
  const char* id;  // may be NULL
  const char* name;
  const char* arguments;  // JSON
} sirocco_tool_call;

typedef struct sirocco_message {
  int role;                             // sirocco_role
  const char* content;                  // UTF-8; NULL is the empty text
  size_t content_bytes;                 // 0: up to the terminating zero
  const sirocco_tool_call* tool_calls;  // of the assistant
  size_t tool_call_count;
  const char* tool_call_id;  // of a tool: which call this answers
} sirocco_message;

typedef struct sirocco_logit_bias {
  int32_t id;
  float value;
} sirocco_logit_bias;

// What to generate, with the meanings and limits of Generate in docs/protocol.md. Of `prompt`, `messages` and `ids` one
// is given.
typedef struct sirocco_request {
  size_t size;

  const char* prompt;   // UTF-8: one message of a user, or with `raw` a text to be continued
  size_t prompt_bytes;  // 0: up to the terminating zero
  int raw;
  int special;  // with raw: control tokens written in the text are control tokens

  const sirocco_message* messages;  // a conversation, oldest first
  size_t message_count;
  const char* tools;  // the OpenAI "tools" array as JSON; NULL: none

  const int32_t* ids;  // tokens, exactly as they are
  size_t id_count;

  float temperature;         // 0: greedy
  uint32_t top_k;            // 0: off
  float top_p;               // 0 and 1: off
  float min_p;               // 0: off
  float repetition_penalty;  // 0 and 1: off
  float frequency_penalty;   // 0: off
  float presence_penalty;    // 0: off
  uint64_t seed;             // the same seed and request give the same answer
  const sirocco_logit_bias* logit_bias;
  size_t logit_bias_count;

  const char* const* stop;  // the answer ends before the first of these
  size_t stop_count;
  uint32_t max_tokens;  // 0: as many as the context holds
  int omit_ids;         // events carry text alone

  int priority;                 // sirocco_priority; 0: SIROCCO_INTERACTIVE
  uint32_t deadline_ms;         // after arrival; 0: none
  int partial;                  // with a deadline: what is late ends with what there is, not with SIROCCO_DEADLINE
  uint32_t max_queue_ms;        // how long it may wait for its first step; 0: any time
  const char* latest_wins_key;  // a newer request of this user with the same key replaces this one; NULL: none
  const char* session;          // that the prompt continues; NULL: none
  int prefill_only;             // nothing is generated: the prompt is computed, and appended to the session
} sirocco_request;

// Sends the request, and returns before there is an answer: sirocco_next() brings it. SIROCCO_INVALID while another
// answer is under way.
SIROCCO_API int sirocco_generate(sirocco_client* client, const sirocco_request* request);

typedef enum sirocco_event_kind {
  SIROCCO_EVENT_ACCEPTED = 1,
  SIROCCO_EVENT_TEXT,
  SIROCCO_EVENT_DONE
} sirocco_event_kind;

typedef struct sirocco_event {
  size_t size;
  int kind;  // sirocco_event_kind. Programs pass over kinds that they do not know.

  uint32_t prompt_tokens;   // with ACCEPTED and DONE
  uint32_t queue_position;  // with ACCEPTED: requests that go first

  const char* text;    // with TEXT: what became certain, in whole characters; terminated by zero. May be empty
  size_t text_bytes;   // without that zero
  const int32_t* ids;  // with TEXT: the tokens; none with omit_ids
  size_t id_count;

  int reason;               // with DONE, like all that follows: sirocco_done_reason
  const char* reason_name;  // "MAX_TOKENS"
  const char* stop_string;  // that was reached; "" unless the reason is SIROCCO_STOP_STRING
  uint32_t generated_tokens;
  uint32_t cached_tokens;  // of the prompt, that had been computed before
  uint32_t dropped_turns;  // that the session forgot, so that the prompt fits the context
  uint64_t queued_us;      // microseconds: from arrival to the first step, on the prompt, on the answer
  uint64_t prefill_us;
  uint64_t decode_us;
  uint64_t lossy_experts;  // that the answer did without (lossy modes); 0: it is exact
} sirocco_event;

// The next event of the answer. *event is NULL if none came within `timeout_ms` (0: does not wait; negative: waits for
// as long as it takes). The answer has ended with DONE, and with every code but SIROCCO_OK.
SIROCCO_API int sirocco_next(sirocco_client* client, int timeout_ms, const sirocco_event** event);

// A descriptor for poll, epoll and event loops, of one connection: readable when sirocco_next() may have something, or
// sirocco_cancel() was called. Then call sirocco_next(client, 0, ...) until *event is NULL: it has read more than it
// has returned. To be watched only while an answer is under way, and neither read nor closed. -1: not connected.
SIROCCO_API int sirocco_fd(const sirocco_client* client);

// Ends the answer under way: its DONE has the reason SIROCCO_CANCELLED. Without one it has no effect. A second call
// before the daemon has answered the first ends the waiting with SIROCCO_GAVE_UP. The daemon is told by the next, or
// present, sirocco_next(). For any thread, and for signal handlers.
SIROCCO_API void sirocco_cancel(sirocco_client* client);

// --- tokens

#define SIROCCO_SPECIAL 1  // control tokens written in the text are control tokens
#define SIROCCO_BOS 2      // the model's BOS token goes first

// `bytes`: of the text, 0: up to the terminating zero. `flags`: SIROCCO_SPECIAL | SIROCCO_BOS.
SIROCCO_API int sirocco_tokenize(sirocco_client* client, const char* text, size_t bytes, int flags, const int32_t** ids,
                                 size_t* count);
// The text ends with a zero that *bytes does not count; `bytes` may be NULL.
SIROCCO_API int sirocco_detokenize(sirocco_client* client, const int32_t* ids, size_t count, const char** text,
                                   size_t* bytes);

// --- sessions

typedef enum sirocco_overflow { SIROCCO_OVERFLOW_FAIL = 1, SIROCCO_OVERFLOW_DROP_OLDEST } sirocco_overflow;

// A conversation that the daemon keeps under a name. See SessionState in docs/protocol.md.
typedef struct sirocco_session {
  size_t size;
  const char* name;
  uint32_t uid;
  uint32_t turns;   // 0 while it is on disk only
  uint32_t tokens;  // in the KV cache
  int overflow;     // sirocco_overflow
  int busy;         // a request of it is under way
  uint64_t idle_ms;
  uint64_t saved_bytes;  // on disk
} sirocco_session;

// Begins a session, or finds the one that there is. `overflow`: what happens when the context is full; 0: FAIL.
// `session`, here and below: as it is then; may be NULL.
SIROCCO_API int sirocco_session_open(sirocco_client* client, const char* name, int overflow,
                                     const sirocco_session** session);
// Begins `to` with all that was said in `name`.
SIROCCO_API int sirocco_session_fork(sirocco_client* client, const char* name, const char* to,
                                     const sirocco_session** session);
// Forgets the last turns.
SIROCCO_API int sirocco_session_rewind(sirocco_client* client, const char* name, uint32_t turns,
                                       const sirocco_session** session);
// Forgets it, or with `save` puts it away on the daemon's disk, where its name finds it again.
SIROCCO_API int sirocco_session_close(sirocco_client* client, const char* name, int save);
// All of this user.
SIROCCO_API int sirocco_session_list(sirocco_client* client, const sirocco_session* const** sessions, size_t* count);

// --- status

typedef enum sirocco_state {
  SIROCCO_STATE_STARTING = 1,
  SIROCCO_STATE_READY,
  SIROCCO_STATE_DEGRADED,
  SIROCCO_STATE_DRAINING,
  SIROCCO_STATE_NO_MODEL,
  SIROCCO_STATE_FAILED
} sirocco_state;

typedef struct sirocco_model {
  size_t size;
  const char* name;
  const char* architecture;  // "qwen3moe"
  const char* chat_format;   // "": no conversations, only raw text and ids
  const char* tokenizer;
  const char* quantisation;
  uint64_t parameters;
  uint64_t file_bytes;
  uint32_t context;  // longest sequence in tokens
  uint32_t experts;  // of a layer; 0: a dense model
  uint32_t experts_used;
} sirocco_model;

typedef struct sirocco_status {
  size_t size;
  int state;               // sirocco_state
  const char* state_name;  // "READY"
  const char* daemon_version;
  const char* const* reasons;  // why it is not READY
  size_t reason_count;
  const sirocco_model* model;  // NULL: none
  uint32_t requests_running;
  uint32_t requests_queued;
  uint64_t uptime_ms;
  const char* json;  // the whole report: StatusReport in docs/protocol.md, as `sirocco status --json` prints it
} sirocco_status;

SIROCCO_API int sirocco_get_status(sirocco_client* client, const sirocco_status** status);

#ifdef __cplusplus
}
#endif
