// A program in C99 over libsirocco, for tests/system/c_interface_test.py: what the first argument names, at
// $SIROCCO_SOCKET. It prints what it saw; an expectation that fails ends it with a line that says which.
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sirocco.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition)                                                     \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

static const char kEndless[] = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,";

static sirocco_client* connected(void) {
  sirocco_client* client = sirocco_new();
  EXPECT(client != NULL);
  if (sirocco_connect(client, NULL) != SIROCCO_OK) {
    printf("%s: %s\n", sirocco_code_name(sirocco_error_code(client)), sirocco_error_message(client));
    exit(3);
  }
  return client;
}

static void start(sirocco_client* client, const sirocco_request* request) {
  if (sirocco_generate(client, request) != SIROCCO_OK) {
    fprintf(stderr, "%s\n", sirocco_error_message(client));
    exit(1);
  }
}

static void start_endless(sirocco_client* client) {
  const sirocco_request request = {.size = sizeof(request), .prompt = kEndless, .raw = 1, .max_tokens = 8000};
  start(client, &request);
}

// Until there is text of the answer.
static void expect_text(sirocco_client* client) {
  const sirocco_event* event = NULL;
  do {
    EXPECT(sirocco_next(client, -1, &event) == SIROCCO_OK);
    EXPECT(event != NULL && event->kind != SIROCCO_EVENT_DONE);
  } while (event->kind != SIROCCO_EVENT_TEXT);
}

// The rest of the answer; *event is its DONE, if it has one.
static int drain(sirocco_client* client, const sirocco_event** event) {
  int code = SIROCCO_OK;
  do {
    code = sirocco_next(client, -1, event);
  } while (code == SIROCCO_OK && (*event)->kind != SIROCCO_EVENT_DONE);
  return code;
}

// The text of an answer, waited for with poll(): {text}\n{reason} {tokens}
static void answer(const char* prompt, unsigned tokens) {
  sirocco_client* client = connected();
  const sirocco_request request = {.size = sizeof(request), .prompt = prompt, .max_tokens = tokens};
  start(client, &request);
  for (;;) {
    const sirocco_event* event = NULL;
    EXPECT(sirocco_next(client, 0, &event) == SIROCCO_OK);
    if (event == NULL) {
      struct pollfd polled = {sirocco_fd(client), POLLIN, 0};
      EXPECT(poll(&polled, 1, -1) == 1);
    } else if (event->kind == SIROCCO_EVENT_TEXT) {
      EXPECT(strlen(event->text) == event->text_bytes);
      fwrite(event->text, 1, event->text_bytes, stdout);
    } else if (event->kind == SIROCCO_EVENT_DONE) {
      printf("\n%s %u\n", event->reason_name, (unsigned)event->generated_tokens);
      break;
    }
  }
  sirocco_free(client);
}

static void* cancel_it(void* client) {
  sirocco_cancel(client);
  return NULL;
}

static sirocco_client* interrupted = NULL;

static void on_alarm(int signal_number) {
  (void)signal_number;
  sirocco_cancel(interrupted);
}

// By another thread, and by a signal handler while the thread waits.
static void cancel(void) {
  sirocco_client* client = connected();
  const sirocco_event* event = NULL;
  pthread_t other;
  start_endless(client);
  expect_text(client);
  EXPECT(pthread_create(&other, NULL, cancel_it, client) == 0);
  EXPECT(drain(client, &event) == SIROCCO_OK && event->reason == SIROCCO_CANCELLED);
  EXPECT(pthread_join(other, NULL) == 0);

  interrupted = client;
  signal(SIGALRM, on_alarm);
  start_endless(client);
  expect_text(client);
  raise(SIGALRM);
  EXPECT(drain(client, &event) == SIROCCO_OK && event->reason == SIROCCO_CANCELLED);
  sirocco_free(client);
}

// What is late: refused, or with `partial` what there is.
static void deadline(void) {
  sirocco_client* client = connected();
  const sirocco_event* event = NULL;
  sirocco_request request = {.size = sizeof(request), .prompt = kEndless, .raw = 1, .max_tokens = 8000};
  request.deadline_ms = 700;
  start(client, &request);
  EXPECT(drain(client, &event) == SIROCCO_DEADLINE);
  printf("%s\n", sirocco_error_message(client));
  request.partial = 1;
  start(client, &request);
  EXPECT(drain(client, &event) == SIROCCO_OK && event->reason == SIROCCO_DEADLINE_REACHED);
  sirocco_free(client);
}

// With one place to run and one in the queue.
static void busy(void) {
  sirocco_client* clients[3] = {connected(), connected(), connected()};
  const sirocco_event* event = NULL;
  start_endless(clients[0]);
  expect_text(clients[0]);
  start_endless(clients[1]);
  EXPECT(sirocco_next(clients[1], -1, &event) == SIROCCO_OK && event->kind == SIROCCO_EVENT_ACCEPTED);
  start_endless(clients[2]);
  EXPECT(drain(clients[2], &event) == SIROCCO_BUSY);
  EXPECT(sirocco_error_retry_after_ms(clients[2]) > 0);
  printf("%s\n", sirocco_error_message(clients[2]));
  for (int i = 0; i < 3; ++i) sirocco_free(clients[i]);
}

// The daemon is killed once this has said "streaming", and there is another one when standard input ends.
static void killed(void) {
  sirocco_client* client = connected();
  const sirocco_event* event = NULL;
  const sirocco_status* status = NULL;
  start_endless(client);
  expect_text(client);
  printf("streaming\n");
  fflush(stdout);
  EXPECT(drain(client, &event) == SIROCCO_DISCONNECTED);
  printf("%s\n", sirocco_error_message(client));
  fflush(stdout);
  EXPECT(sirocco_get_status(client, &status) == SIROCCO_DISCONNECTED);
  while (getchar() != EOF) {
  }
  EXPECT(sirocco_connect(client, NULL) == SIROCCO_OK);
  EXPECT(sirocco_get_status(client, &status) == SIROCCO_OK);
  printf("%s\n", status->state_name);
  sirocco_free(client);
}

static void* one_answer(void* text) {
  sirocco_client* client = connected();
  const sirocco_request request = {.size = sizeof(request), .prompt = "Count to ten.", .max_tokens = 20};
  const sirocco_event* event = NULL;
  start(client, &request);
  do {
    EXPECT(sirocco_next(client, -1, &event) == SIROCCO_OK);
    if (event->kind == SIROCCO_EVENT_TEXT) strcat(text, event->text);
  } while (event->kind != SIROCCO_EVENT_DONE);
  sirocco_free(client);
  return NULL;
}

// Four threads with a client each: all their texts.
static void threads(void) {
  static char texts[4][4096];
  pthread_t thread[4];
  for (int i = 0; i < 4; ++i) EXPECT(pthread_create(&thread[i], NULL, one_answer, texts[i]) == 0);
  for (int i = 0; i < 4; ++i) EXPECT(pthread_join(thread[i], NULL) == 0);
  for (int i = 0; i < 4; ++i) EXPECT(strcmp(texts[i], texts[0]) == 0);
  printf("%s\n", texts[0]);
}

static void tokens_and_sessions(void) {
  sirocco_client* client = connected();
  const int32_t* ids = NULL;
  const char* text = NULL;
  size_t count = 0, bytes = 0;
  const sirocco_session* session = NULL;
  const sirocco_session* const* sessions = NULL;
  EXPECT(sirocco_tokenize(client, "gr\xc3\xbc\xc3\x9f dich", 0, 0, &ids, &count) == SIROCCO_OK && count > 1);
  int32_t copy[64];
  EXPECT(count <= 64);
  memcpy(copy, ids, count * sizeof(*ids));
  EXPECT(sirocco_detokenize(client, copy, count, &text, &bytes) == SIROCCO_OK);
  EXPECT(strcmp(text, "gr\xc3\xbc\xc3\x9f dich") == 0 && bytes == strlen(text));

  EXPECT(sirocco_session_rewind(client, "talk", 1, &session) == SIROCCO_NOT_FOUND);
  EXPECT(sirocco_session_open(client, "talk", SIROCCO_OVERFLOW_DROP_OLDEST, &session) == SIROCCO_OK);
  EXPECT(strcmp(session->name, "talk") == 0 && session->overflow == SIROCCO_OVERFLOW_DROP_OLDEST);
  const sirocco_message message = {.role = SIROCCO_ROLE_USER, .content = "Hello"};
  const sirocco_request request = {
      .size = sizeof(request), .messages = &message, .message_count = 1, .session = "talk", .max_tokens = 4};
  const sirocco_event* event = NULL;
  start(client, &request);
  EXPECT(drain(client, &event) == SIROCCO_OK && event->generated_tokens == 4);
  EXPECT(sirocco_session_fork(client, "talk", "other", &session) == SIROCCO_OK && session->turns == 1);
  EXPECT(sirocco_session_rewind(client, "other", 1, &session) == SIROCCO_OK && session->turns == 0);
  EXPECT(sirocco_session_list(client, &sessions, &count) == SIROCCO_OK && count == 2);
  EXPECT(sirocco_session_close(client, "talk", 0) == SIROCCO_OK &&
         sirocco_session_close(client, "other", 0) == SIROCCO_OK);
  EXPECT(sirocco_session_list(client, &sessions, &count) == SIROCCO_OK && count == 0);
  sirocco_free(client);
}

int main(int argc, char** argv) {
  EXPECT(argc >= 2 && sirocco_api_version() == SIROCCO_API_VERSION);
  const char* what = argv[1];
  if (strcmp(what, "answer") == 0 && argc == 4) {
    answer(argv[2], (unsigned)atoi(argv[3]));
  } else if (strcmp(what, "cancel") == 0) {
    cancel();
  } else if (strcmp(what, "deadline") == 0) {
    deadline();
  } else if (strcmp(what, "busy") == 0) {
    busy();
  } else if (strcmp(what, "killed") == 0) {
    killed();
  } else if (strcmp(what, "threads") == 0) {
    threads();
  } else if (strcmp(what, "tokens_and_sessions") == 0) {
    tokens_and_sessions();
  } else {
    fprintf(stderr, "c_client: no such thing: %s\n", what);
    return 2;
  }
  return 0;
}
