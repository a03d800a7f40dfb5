/*
 * libipc: messages between processes of one machine.
 *
 * Two processes meet under a name and share one sealed piece of memory with a ring for each direction. Messages keep their order, arrive
 * once and whole, and outlive the death of their sender. While both sides are busy no system call is made; a side that finds nothing to do
 * polls for a short time and then sleeps.
 *
 *     ipc_connection *c;
 *     if (ipc_connect("sensors", NULL, &c) != IPC_OK) { fprintf(stderr, "%s\n", ipc_last_error()); return 1; }
 *     ipc_send(c, "hello", 5, IPC_FOREVER);
 *     ipc_close(c);
 *
 * and on the other side:
 *
 *     ipc_listener *l;
 *     ipc_connection *c;
 *     ipc_message m;
 *     ipc_listen("sensors", NULL, &l);
 *     ipc_accept(l, IPC_FOREVER, &c);
 *     while (ipc_recv(c, &m, IPC_FOREVER) == IPC_OK) { printf("%.*s\n", (int)m.len, (const char *)m.data); }
 *     ipc_close(c);
 *     ipc_listener_close(l);
 *
 * Results: IPC_OK is 0; others say what went wrong, and ipc_last_error() says it with the numbers. No call ends the process, whatever the
 * peer does. Times are in ns; a timeout of 0 does not wait, a negative one (IPC_FOREVER) waits without end. Sizes are in bytes.
 *
 * Handles (pointers to structures without contents here) are the library's memory; what a call hands out is the caller's to end with the
 * call that its type names. A handle that is NULL or was ended is an error, not a crash; ending one while another thread uses it is the
 * caller's fault. Pointers that are given to a call are used while it runs only, unless it says otherwise.
 *
 * The peer may be hostile. Bytes of a message may change while they are read unless it is sealed: copy before you check, or read each once.
 */

#ifndef IPC_H
#define IPC_H

/* Generated from ipc-ffi by `IPC_BLESS=1 cargo test -p ipc-ffi --test header`; changes go there. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 The half that sends, for ipc_shutdown.
 */
#define IPC_SENDING 1

/*
 The half that receives, for ipc_shutdown.
 */
#define IPC_RECEIVING 2

/*
 For a timeout: without end. Any negative number is.

 Since 0.1.
 */
#define IPC_FOREVER -1

/*
 In options: take memory when it is first used, not when the connection is made. A shortage is then a signal, not an error.
 */
#define IPC_LAZY_MEMORY 1

/*
 In options: map pages when they are first used.
 */
#define IPC_LAZY_PAGES 2

/*
 In options: huge pages, where the system has any to give.
 */
#define IPC_HUGE_PAGES 4

/*
 In options: no membarrier(2); fences instead.
 */
#define IPC_NO_MEMBARRIER 8

/*
 In options: admit every user who can open the socket file.
 */
#define IPC_ANYONE 16

/*
 In options of ipc_connect: wait for a listener that is not there yet, until the timeout.
 */
#define IPC_WAIT_FOR_LISTENER 32

/*
 In options: the receiver takes no message that lies in shared memory beside the ring; together with a small ring that bounds what a
 peer can make this process map. The same as a limit of 0 bytes, which a zero field cannot say.
 */
#define IPC_NO_ARENA 64

/*
 Of a message: nobody can write its bytes any more. Those of others a hostile peer may still change: read each once, check, use.
 */
#define IPC_MESSAGE_SEALED 1

/*
 Version of the header: the first number. Programs that were linked against a library of one first number (while it is 0: of one second
 number) work with every later one of it.
 */
#define IPC_VERSION_MAJOR 0

/*
 Version of the header: the second number.
 */
#define IPC_VERSION_MINOR 1

/*
 Version of the header: the third number.
 */
#define IPC_VERSION_PATCH 0

/*
 What a call came to. 0 is success. New results are added at the end; numbers never change.

 Since 0.1.
 */
enum ipc_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     It was done.
     */
    IPC_OK = 0,
    /*
     There is no message, or no room, now, and the call was one that does not wait (timeout 0).
     */
    IPC_WOULD_BLOCK = 1,
    /*
     What the call waited for did not come in time.
     */
    IPC_TIMED_OUT = 2,
    /*
     The peer has closed its side. Everything it had sent before was received.
     */
    IPC_DISCONNECTED = 3,
    /*
     The peer died, or vanished without closing. Everything it had sent before was received.
     */
    IPC_PEER_DIED = 4,
    /*
     The peer wrote what it must not; the connection is unusable, this process is unharmed.
     */
    IPC_VIOLATION = 5,
    /*
     The message is larger than this connection takes, or than the call can send at once.
     */
    IPC_TOO_LARGE = 6,
    /*
     The buffer is shorter than the message, which can be received again.
     */
    IPC_TOO_SHORT = 7,
    /*
     The system has no memory for it. Nothing was sent.
     */
    IPC_NO_MEMORY = 8,
    /*
     More files than can be beside one message: 63.
     */
    IPC_TOO_MANY_FILES = 9,
    /*
     This connection does not have the lane, or the lane does not take such a message.
     */
    IPC_NO_LANE = 10,
    /*
     The handle belongs to the parent of this process.
     */
    IPC_FORKED = 11,
    /*
     The system failed; ipc_last_errno() is its number.
     */
    IPC_SYSTEM = 12,
    /*
     An argument is null, or out of the range that the message of the error names.
     */
    IPC_INVALID = 13,
    /*
     The handle, or that half of the connection, was closed by this process.
     */
    IPC_CLOSED = 14,
    /*
     A batch, a reservation or a loan of this connection is open: ipc_commit, ipc_batch_publish or ipc_cancel first. Or there is
     none, or no message, and the call asks for one.
     */
    IPC_BUSY = 15,
    /*
     Nobody listens under that name.
     */
    IPC_NOT_FOUND = 16,
    /*
     Somebody listens under that name already.
     */
    IPC_ADDRESS_IN_USE = 17,
    /*
     The name cannot be one, or its directory cannot be trusted.
     */
    IPC_BAD_ADDRESS = 18,
    /*
     The server refused the connection.
     */
    IPC_REFUSED = 19,
    /*
     The server's user is not one that the options admit.
     */
    IPC_NOT_ADMITTED = 20,
    /*
     A defect of this library. Nothing is known of the handle any more but that it can be closed.
     */
    IPC_DEFECT = 21,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ipc_result ipc_result;
#else
typedef int32_t ipc_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 Which lanes a connection has. Both sides may want different ones: it gets the one that asks for less, the first in this list.

 Since 0.1.
 */
enum ipc_mode
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     In options: all lanes, IPC_MODE_AUTO.
     */
    IPC_MODE_DEFAULT = 0,
    /*
     The socket alone. No memory is shared, nothing is mapped.
     */
    IPC_MODE_KERNEL = 1,
    /*
     Small messages in packets of the socket, large ones in shared memory with a notice of 16 bytes in a packet.
     */
    IPC_MODE_HYBRID = 2,
    /*
     Small messages in a shared ring, large ones in shared memory beside it.
     */
    IPC_MODE_SHARED = 3,
    /*
     All lanes, the one that costs least for each message.
     */
    IPC_MODE_AUTO = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ipc_mode ipc_mode;
#else
typedef uint32_t ipc_mode;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 How calls that may wait do so.

 Since 0.1.
 */
enum ipc_wait
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     In options: IPC_WAIT_ADAPTIVE with 50 us.
     */
    IPC_WAIT_DEFAULT = 0,
    /*
     Poll for up to a given time, less where that has not paid lately, then sleep.
     */
    IPC_WAIT_ADAPTIVE = 1,
    /*
     Sleep at once.
     */
    IPC_WAIT_SLEEP = 2,
    /*
     Poll without end: lowest latency, a core fully used.
     */
    IPC_WAIT_BUSY = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ipc_wait ipc_wait;
#else
typedef uint32_t ipc_wait;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 How a message came.

 Since 0.1.
 */
enum ipc_lane
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     In a packet of the socket.
     */
    IPC_LANE_KERNEL = 1,
    /*
     In the ring.
     */
    IPC_LANE_INLINE = 2,
    /*
     In a block of shared memory beside the ring.
     */
    IPC_LANE_ARENA = 3,
    /*
     In a sealed file of its own.
     */
    IPC_LANE_FILE = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ipc_lane ipc_lane;
#else
typedef uint32_t ipc_lane;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 What decides about lanes.

 Since 0.1.
 */
enum ipc_route
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     What each lane costs on this machine. The default; the value is ignored.
     */
    IPC_ROUTE_COSTS = 0,
    /*
     One lane for every message; the value is an ipc_lane. What it does not take is refused: IPC_TOO_LARGE, IPC_NO_LANE.
     */
    IPC_ROUTE_LANE = 1,
    /*
     Messages up to value bytes in the queue (ring or packets), longer ones in shared memory.
     */
    IPC_ROUTE_THRESHOLD = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ipc_route ipc_route;
#else
typedef uint32_t ipc_route;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 Why a listener turned a client away.

 Since 0.1.
 */
enum ipc_refusal
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     None was refused yet.
     */
    IPC_REFUSAL_NONE = 0,
    /*
     It speaks no version of the layout that this library does.
     */
    IPC_REFUSAL_VERSION = 1,
    /*
     There are as many connections as the options allow.
     */
    IPC_REFUSAL_CONNECTIONS = 2,
    /*
     Its memory would exceed what the options allow, or what the system has.
     */
    IPC_REFUSAL_MEMORY = 3,
    /*
     Its user is not admitted.
     */
    IPC_REFUSAL_CREDENTIALS = 4,
    /*
     Its messages are of another type.
     */
    IPC_REFUSAL_PAYLOAD = 5,
    /*
     Its hello made no sense, or another reason.
     */
    IPC_REFUSAL_OTHER = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ipc_refusal ipc_refusal;
#else
typedef uint32_t ipc_refusal;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 How much a line of the log matters.

 Since 0.1.
 */
enum ipc_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     A peer broke the protocol, or this library has a defect.
     */
    IPC_LOG_ERROR = 1,
    /*
     A call failed in a way that programs seldom expect: the system, an argument, a client that was refused.
     */
    IPC_LOG_WARNING = 2,
    /*
     Listeners and connections that come and go.
     */
    IPC_LOG_INFO = 3,
    /*
     Every other call that failed, but those that found nothing or came to the end of their time.
     */
    IPC_LOG_DEBUG = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ipc_log_level ipc_log_level;
#else
typedef uint32_t ipc_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 Who measured costs.

 Since 0.1.
 */
enum ipc_calibration_origin
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /*
     Nobody on this machine: they are compiled in.
     */
    IPC_COSTS_DEFAULT = 0,
    /*
     A process of this user, for 40 ms.
     */
    IPC_COSTS_QUICK = 1,
    /*
     The command `ipc calibrate`.
     */
    IPC_COSTS_FULL = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ipc_calibration_origin ipc_calibration_origin;
#else
typedef uint32_t ipc_calibration_origin;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/*
 Both directions between two processes. Made by ipc_connect and ipc_accept, ended by ipc_close.

 It has two halves, each for one thread at a time: that of the functions that send, and that of those that receive (each says
 whose it is). The two threads may be different, and run at once. A child that was forked finds every handle of its parent's unusable:
 IPC_FORKED.

 Since 0.1.
 */
typedef struct ipc_connection ipc_connection;

/*
 A message that was kept. From any thread, one at a time; it outlives its connection.

 Since 0.1.
 */
typedef struct ipc_held ipc_held;

/*
 Listens under a name. Made by ipc_listen, ended by ipc_listener_close. One thread at a time.

 Since 0.1.
 */
typedef struct ipc_listener ipc_listener;

/*
 Memory for a message that was lent and detached from its connection. From any thread, one at a time.

 Since 0.1.
 */
typedef struct ipc_loan ipc_loan;

/*
 What a message of s bytes costs on a lane, from the call that sends it until the receiver has every byte: fixed_ns + per_byte_ns * s
 up to knee bytes; fixed_beyond_ns + per_byte_beyond_ns * (s - knee) for longer ones. It may grow at its end in later versions.

 Since 0.1.
 */
typedef struct ipc_cost {
    /*
     sizeof(ipc_cost), to be set before the call.
     */
    size_t size;
    /*
     An ipc_calibration_origin.
     */
    uint32_t origin;
    /*
     0.
     */
    uint32_t reserved;
    /*
     In ns.
     */
    double fixed_ns;
    /*
     In ns per byte.
     */
    double per_byte_ns;
    /*
     In bytes; UINT64_MAX if one line holds for all lengths.
     */
    uint64_t knee;
    /*
     In ns, of a message of knee bytes.
     */
    double fixed_beyond_ns;
    /*
     In ns per byte beyond knee.
     */
    double per_byte_beyond_ns;
} ipc_cost;

/*
 Who the other side is, as the kernel says: of a client the process that connected, of a server the one that listened.

 Since 0.1.
 */
typedef struct ipc_peer {
    /*
     Process id, -1 if it has none here. For display: a number is used again once its process has ended.
     */
    int32_t pid;
    /*
     Effective user id.
     */
    uint32_t uid;
    /*
     Effective group id.
     */
    uint32_t gid;
    /*
     A descriptor of the process itself (see pidfd_open(2)), which stays the connection's; -1 where the kernel has none, before
     version 6.5, once both halves were shut down, and for ipc_admit_fn.
     */
    int pidfd;
} ipc_peer;

/*
 Says whether a peer is admitted: not 0 if so. It is called while ipc_accept or ipc_connect runs, and must not call this library.

 Since 0.1.
 */
typedef int32_t (*ipc_admit_fn)(void *user_data, const struct ipc_peer *peer);

/*
 How to listen and to connect. Zero in a field stands for its default. Fill it with ipc_options_init, then set what should differ; it
 may grow at its end in later versions.

 Since 0.1.
 */
typedef struct ipc_options {
    /*
     sizeof(ipc_options) of the program; set by ipc_options_init.
     */
    size_t size;
    /*
     An ipc_mode. Default: IPC_MODE_AUTO.
     */
    uint32_t mode;
    /*
     IPC_LAZY_MEMORY and the like, or'ed.
     */
    uint32_t flags;
    /*
     An ipc_wait. Default: IPC_WAIT_ADAPTIVE.
     */
    uint32_t wait;
    /*
     Permission bits of the socket file. Listeners only. Default: 0600.
     */
    uint32_t permissions;
    /*
     With IPC_WAIT_ADAPTIVE: how long to poll at most, in ns. Default: 50000.
     */
    uint64_t spin_ns;
    /*
     To connect: how long to wait for the listener's answer, in ns; negative: without end. Default: 5 s. To listen: how long a
     client may be silent after it has connected. Default: 1 s.
     */
    int64_t timeout_ns;
    /*
     Bytes of the ring to the server: a power of two from 4 KiB to 1 GiB. Listeners: of both rings, for clients that ask for none;
     default 256 KiB. To connect: asks for it; the server may give another. Set both or none.
     */
    uint64_t ring_to_server;
    /*
     To connect: bytes of the ring to the client, as ring_to_server. Listeners: the largest ring that a client gets; default 64 MiB.
     */
    uint64_t ring_to_client;
    /*
     Listeners: connections at a time. Default: 1024.
     */
    uint64_t max_connections;
    /*
     Listeners: bytes of all rings together. To connect: the largest segment to map, in bytes. Default: 4 GiB.
     */
    uint64_t max_memory;
    /*
     Messages that the peer may have on the way to us. Default: as many as the ring holds.
     */
    uint64_t credit_messages;
    /*
     Bytes that the peer may have in shared memory beside the ring, on the way to us or held by us. Default: 256 MiB.
     */
    uint64_t credit_arena;
    /*
     Bytes in one message that the peer may send us. Default: 1 TiB.
     */
    uint64_t credit_message;
    /*
     With coalesce_ns: wake a sleeping peer when so many messages wait for it. 0 or 1: at once.
     */
    uint64_t coalesce_messages;
    /*
     With coalesce_messages: or when the first of them has waited for so long, in ns.
     */
    uint64_t coalesce_ns;
    /*
     Users whose processes are admitted as peers; NULL: our own alone. Read by the call only.
     */
    const uint32_t *users;
    /*
     How many users there are.
     */
    size_t user_count;
    /*
     Decides who is admitted, instead of users. A listener calls it as long as it lives.
     */
    ipc_admit_fn admit;
    /*
     The first argument of admit.
     */
    void *admit_data;
    /*
     Name of the type that all messages have, at most 64 bytes; NULL: of any type. A peer that names another type, or another size or
     alignment of it, is refused. Read by the call only.
     */
    const char *payload_name;
    /*
     With payload_name: size of the type in bytes.
     */
    uint64_t payload_size;
    /*
     With payload_name: its alignment in bytes, a power of two.
     */
    uint64_t payload_align;
} ipc_options;

/*
 A message that is read in place. Filled by the library; this structure does not grow.

 Since 0.1.
 */
typedef struct ipc_message {
    /*
     Its bytes, to be read only. Aligned to 8 bytes in the ring and to 128 in blocks and files; not aligned in IPC_MODE_KERNEL, and where
     files are beside it.
     */
    const void *data;
    /*
     How many there are.
     */
    size_t len;
    /*
     An ipc_lane.
     */
    uint32_t lane;
    /*
     IPC_MESSAGE_SEALED, or 0.
     */
    uint32_t flags;
    /*
     How many files are beside it, which ipc_message_files takes.
     */
    uint32_t files;
    /*
     0.
     */
    uint32_t reserved;
} ipc_message;

/*
 What a listener has done so far. It may grow at its end in later versions.

 Since 0.1.
 */
typedef struct ipc_listener_status {
    /*
     sizeof(ipc_listener_status), to be set before the call.
     */
    size_t size;
    /*
     Connections that live at the moment.
     */
    uint64_t connections;
    /*
     Clients turned away so far: refused, malformed, silent for too long, or gone.
     */
    uint64_t refused;
    /*
     An ipc_refusal: why the last one was refused.
     */
    uint32_t last_refusal;
    /*
     0.
     */
    uint32_t reserved;
} ipc_listener_status;

/*
 Takes a line of the log, without a line end; the text is gone when it returns. It is called by whichever thread the line comes from,
 several at a time, while a call of this library runs: it must not call this library.

 Since 0.1.
 */
typedef void (*ipc_log_fn)(void *user_data, uint32_t level, const char *text);

/*
 Some bytes of the program's.

 Since 0.1.
 */
typedef struct ipc_slice {
    /*
     Where they are; may be NULL if there are none.
     */
    const void *data;
    /*
     How many there are.
     */
    size_t len;
} ipc_slice;

/*
 Takes a message that the peer did not get; the bytes are gone when it returns.

 Since 0.1.
 */
typedef void (*ipc_message_fn)(void *user_data, const void *data, size_t len);

/*
 The sending half. It may grow at its end in later versions.

 Since 0.1.
 */
typedef struct ipc_send_status {
    /*
     sizeof(ipc_send_status), to be set before the call.
     */
    size_t size;
    /*
     Messages sent since the connection began.
     */
    uint64_t sent;
    /*
     Messages that the peer has consumed.
     */
    uint64_t consumed;
    /*
     Times that this half went to sleep.
     */
    uint64_t sleeps;
    /*
     Bytes of the ring.
     */
    uint64_t ring_capacity;
    /*
     Bytes of the ring that are used.
     */
    uint64_t ring_used;
    /*
     Bytes of address space beside the ring. Memory is taken only where it was used.
     */
    uint64_t arena_size;
    /*
     Bytes that it may grow to: what the peer accepts.
     */
    uint64_t arena_limit;
    /*
     Bytes of it that are lent, on the way, or held by the peer; what came back counts until a call looks for room, or ipc_trim.
     */
    uint64_t arena_used;
    /*
     Blocks of it that are.
     */
    uint64_t arena_blocks;
    /*
     The largest message that this connection takes, in bytes.
     */
    uint64_t max_message;
    /*
     The largest message that ipc_reserve takes, in bytes.
     */
    uint64_t max_reservation;
    /*
     Messages that the peer lets be on the way to it.
     */
    uint64_t credit_messages;
} ipc_send_status;

/*
 The receiving half. It may grow at its end in later versions.

 Since 0.1.
 */
typedef struct ipc_recv_status {
    /*
     sizeof(ipc_recv_status), to be set before the call.
     */
    size_t size;
    /*
     Messages received since the connection began.
     */
    uint64_t received;
    /*
     Times that this half went to sleep.
     */
    uint64_t sleeps;
    /*
     Bytes of the ring.
     */
    uint64_t ring_capacity;
    /*
     Bytes of the ring that are used.
     */
    uint64_t ring_used;
    /*
     Messages in the ring that wait to be consumed.
     */
    uint64_t waiting;
    /*
     Bytes beside the ring that this process maps of the peer's.
     */
    uint64_t mapped;
} ipc_recv_status;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Appends a copy of len bytes to the open batch, which the first call opens. The peer sees them when the batch is published; if the
 ring has no room and the call waits for it, the peer's credit in messages has run out, or the message takes another lane, what the batch
 has so far is published first. Until ipc_batch_publish or ipc_cancel nothing else can be sent.

 Arguments and results as for ipc_send; unless it is IPC_OK the message is not in the batch, and the batch stays open. After IPC_WOULD_BLOCK
 it may still have messages: publish them before you wait, for the peer makes no room for what it does not get. ipc_batch_add is
 the same without a call where there is room. In a forked child both may append to a batch that was open before; publishing it fails.
 Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_batch_push(struct ipc_connection *connection,
                          const void *data,
                          size_t len,
                          int64_t timeout_ns);

/*
 Publishes the open batch with one store, and wakes the peer only if it sleeps. Without an open batch it does nothing.

 Returns IPC_OK; IPC_BUSY if something else is open; IPC_VIOLATION, IPC_FORKED: then the batch is dropped; IPC_INVALID; IPC_CLOSED.
 Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_batch_publish(struct ipc_connection *connection);

/*
 What a lane costs by the costs that this process uses: those that were measured and kept for this boot, else those that are compiled in.

 connection_mode: an ipc_mode, which says what the queue is. which_lane: an ipc_lane. cost: filled; its size must be set.
 Returns IPC_OK; IPC_NO_LANE if there is none in that mode; IPC_INVALID. Any thread. Since 0.1.
 */
ipc_result ipc_get_cost(uint32_t connection_mode,
                        uint32_t which_lane,
                        struct ipc_cost *cost);

/*
 Measures what lanes cost now, for at most 40 ms, keeps it for this boot, and uses it for this process's connections. Without it a
 process does so by itself once that pays. For a measurement between two processes there is the command `ipc calibrate`.

 Returns IPC_OK; IPC_WOULD_BLOCK if the machine was too busy to be believed, or another thread measures: the costs in use stay.
 Any thread. Since 0.1.
 */
ipc_result ipc_calibrate(void);

/*
 Up to which length a message should go through a queue whole, rather than through shared memory with a notification of notify_bytes
 bytes through the queue: T = (a_s + b_q * d) / (b_q - b_s), rounded down. UINT64_MAX where no length pays.

 queue_ns, queue_ns_per_byte: what a message costs through the queue, a_q and b_q. shared_ns, shared_ns_per_byte: what its bytes cost
 in shared memory alone, a_s and b_s. All 0 or more. threshold: filled, in bytes.
 Returns IPC_OK; IPC_INVALID for costs out of range. Any thread. Since 0.1.
 */
ipc_result ipc_crossover(double queue_ns,
                         double queue_ns_per_byte,
                         double shared_ns,
                         double shared_ns_per_byte,
                         uint64_t notify_bytes,
                         uint64_t *threshold);

/*
 Connects to whoever listens under this name or absolute path.

 options: may be NULL. connection: where the handle goes; NULL on failure. It is ours until ipc_close.
 Returns IPC_OK; IPC_NOT_FOUND: nobody listens there; IPC_WOULD_BLOCK: too many others are connecting; IPC_TIMED_OUT; IPC_REFUSED, with the
 server's reason in ipc_last_error; IPC_NOT_ADMITTED: the options do not admit its user, or the system denies access; IPC_BAD_ADDRESS; IPC_TOO_LARGE: the server's segment; IPC_DISCONNECTED, IPC_VIOLATION: it hung up, or answered
 wrongly; IPC_INVALID for an option out of range; IPC_SYSTEM.
 Any thread. Since 0.1.
 */
ipc_result ipc_connect(const char *name,
                       const struct ipc_options *options,
                       struct ipc_connection **connection);

/*
 Who the peer is.

 Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Any thread. Since 0.1.
 */
ipc_result ipc_get_peer(const struct ipc_connection *connection, struct ipc_peer *peer);

/*
 Closes halves of a connection: IPC_SENDING, IPC_RECEIVING or both. The peer gets what was sent before, and then IPC_DISCONNECTED; what
 it sends to a half that was closed is refused. What is open in a half is cancelled or given back. While no other call of these halves runs.

 Returns IPC_OK, also if they were closed before; IPC_INVALID; IPC_CLOSED. Since 0.1.
 */
ipc_result ipc_shutdown(struct ipc_connection *connection,
                        uint32_t halves);

/*
 Ends a connection. The peer gets what was sent before. Messages and batches that are open are given back or cancelled; held messages
 and loans that were detached live on. The handle is closed whatever is returned: calls with it say IPC_CLOSED (until some hundred
 others were closed too).

 Returns IPC_OK; IPC_INVALID if it is NULL; IPC_CLOSED if it was closed before. While no other call with this handle runs. Since 0.1.
 */
ipc_result ipc_close(struct ipc_connection *connection);

/*
 What went wrong in the last call of this thread that failed, with the numbers: what was asked for, what there is, what is
 allowed. An empty text if none has failed. The same memory for every call of a thread: it holds until the thread's next call of this.

 Any thread: each has its own. Since 0.1.
 */
const char *ipc_last_error(void);

/*
 The system's error number (as in errno.h) of the last call of this thread that failed; 0 if it was not the system that failed.

 Any thread: each has its own. Since 0.1.
 */
int ipc_last_errno(void);

/*
 Keeps the message that ipc_recv gave while others are received. One in shared memory stays where it is and counts against
 credit_arena; one in the ring is copied. Its data are where message says from here on, no longer where ipc_recv said.

 held: where the handle goes; NULL on failure. It is ours until ipc_held_drop. message: filled anew, if not NULL.
 Returns IPC_OK; IPC_BUSY if no message of ipc_recv is being read; IPC_INVALID; IPC_CLOSED. Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_hold(struct ipc_connection *connection,
                    struct ipc_held **held,
                    struct ipc_message *message);

/*
 Where the bytes of a held message are; valid until ipc_held_drop.

 Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Thread: the held message's. Since 0.1.
 */
ipc_result ipc_held_message(const struct ipc_held *held, struct ipc_message *message);

/*
 Takes the files beside a held message, as ipc_message_files does.

 Returns IPC_OK; IPC_TOO_SHORT; IPC_INVALID; IPC_CLOSED. Thread: the held message's. Since 0.1.
 */
ipc_result ipc_held_files(struct ipc_held *held, int *fds, size_t capacity, size_t *count);

/*
 Gives a held message back, and closes its handle and the files that were not taken.

 Returns IPC_OK; IPC_INVALID if it is NULL; IPC_CLOSED if it was dropped before. Thread: the held message's. Since 0.1.
 */
ipc_result ipc_held_drop(struct ipc_held *held);

/*
 Listens under a name: a plain one (A-Z a-z 0-9 . _ -, at most 64 bytes), which stands for a socket in a directory of this user's own, or
 an absolute path. A file that a dead process left is replaced; a live one's is not.

 options: may be NULL. listener: where the handle goes; NULL on failure. It is ours until ipc_listener_close.
 Returns IPC_OK; IPC_ADDRESS_IN_USE; IPC_BAD_ADDRESS; IPC_INVALID for an option out of range; IPC_SYSTEM.
 Any thread. Since 0.1.
 */
ipc_result ipc_listen(const char *name,
                      const struct ipc_options *options,
                      struct ipc_listener **listener);

/*
 The next client that completes the handshake and is admitted.

 timeout_ns: how long to wait for it; 0: not at all; negative: without end.
 connection: where the handle goes; NULL on failure. It is ours until ipc_close, and outlives the listener.
 Returns IPC_OK; IPC_WOULD_BLOCK, IPC_TIMED_OUT: nobody came; IPC_FORKED; IPC_SYSTEM; IPC_INVALID; IPC_CLOSED.
 Thread: the listener's. Since 0.1.
 */
ipc_result ipc_accept(struct ipc_listener *listener, int64_t timeout_ns, struct ipc_connection **connection);

/*
 The descriptor for poll and epoll: readable when ipc_accept may have something to do. It stays the library's: do not read or
 close it. -1 if the handle is NULL or closed.

 Thread: the listener's. Since 0.1.
 */
int ipc_listener_fd(const struct ipc_listener *listener);

/*
 Where the socket file is, as a text that lives as long as the listener. NULL if the handle is NULL or closed.

 Thread: the listener's. Since 0.1.
 */
const char *ipc_listener_path(const struct ipc_listener *listener);

/*
 Fills status, whose size must be set.

 Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Thread: the listener's. Since 0.1.
 */
ipc_result ipc_listener_get_status(const struct ipc_listener *listener, struct ipc_listener_status *status);

/*
 Takes the name away and ends the listener. Connections live on. The handle is closed whatever is returned; its descriptor too.

 Returns IPC_OK; IPC_INVALID if it is NULL; IPC_CLOSED if it was closed before. Thread: the listener's. Since 0.1.
 */
ipc_result ipc_listener_close(struct ipc_listener *listener);

/*
 Reserves a message of len bytes in the ring, to be written in place and then sent with ipc_commit or given up with ipc_cancel. For
 small messages, at most max_reservation of ipc_send_status; beyond that there is ipc_lend. Until then nothing else can be sent.

 data: where to write, aligned to 8 bytes, its bytes unspecified; NULL on failure. A hostile peer may write there too.
 Other arguments and results as for ipc_send. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_reserve(struct ipc_connection *connection,
                       size_t len,
                       int64_t timeout_ns,
                       void **data);

/*
 Lends memory for a message of len bytes, of any length, to be written in place and then sent with ipc_commit, given up with ipc_cancel, or
 detached with ipc_loan_detach. The receiver reads it where it was written: sending costs what a small message does. Until then
 nothing else can be sent.

 data: where to write, aligned to 128 bytes (in mode IPC_MODE_KERNEL, where it is copied: not aligned); its bytes unspecified; nobody else
 can write there. NULL on failure. Other arguments and results as for ipc_send. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_lend(struct ipc_connection *connection,
                    size_t len,
                    int64_t timeout_ns,
                    void **data);

/*
 Sends what was reserved or lent, as a message of len bytes. Wakes the peer only if it sleeps. The memory is not the caller's any more,
 whatever is returned.

 len: of a reservation what was reserved; of a loan at most what was lent.
 Returns IPC_OK; IPC_BUSY if nothing is open; IPC_INVALID for a len out of range, and then it stays open; IPC_CLOSED. For a reservation
 nothing else: that the peer is gone, or this process a forked child, shows in the next call. For a loan in the arena IPC_VIOLATION and
 IPC_FORKED. For one that is not (ipc_loan_detach says IPC_NO_LANE) as ipc_send, waiting for room without end.
 Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_commit(struct ipc_connection *connection,
                      size_t len);

/*
 Gives up the batch, reservation or loan that is open, if one is. Nothing of it is sent.

 Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_cancel(struct ipc_connection *connection);

/*
 Detaches the open loan, so that other messages can be sent, and other loans made, while it is written. Its memory stays where it is.

 loan: where the handle goes; NULL on failure. It is ours until ipc_loan_send or ipc_loan_drop, however long the connection lives.
 Returns IPC_OK; IPC_BUSY if no loan is open; IPC_NO_LANE if its memory is not in the arena (mode IPC_MODE_KERNEL, or more than the
 arena ever holds), and then it stays open; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_loan_detach(struct ipc_connection *connection,
                           struct ipc_loan **loan);

/*
 The memory of a detached loan: where to write, and in len, if not NULL, how many bytes there are. NULL if the handle is NULL or closed.

 Thread: the loan's. Since 0.1.
 */
void *ipc_loan_data(struct ipc_loan *loan,
                    size_t *len);

/*
 Sends a detached loan, as a message of len bytes, on the connection that lent it. If it is sent the handle is closed; if not it stays.

 len: at most what was lent. timeout_ns and results as for ipc_send; IPC_NO_LANE if another connection lent it.
 Thread: the sending half's, and the loan's. Since 0.1.
 */
ipc_result ipc_loan_send(struct ipc_connection *connection,
                         struct ipc_loan *loan,
                         size_t len,
                         int64_t timeout_ns);

/*
 Gives a detached loan back unsent, and closes its handle.

 Returns IPC_OK; IPC_INVALID if it is NULL; IPC_CLOSED if it was sent or dropped before. Thread: the loan's. Since 0.1.
 */
ipc_result ipc_loan_drop(struct ipc_loan *loan);

/*
 Has `function` called with every line of the log up to `level` (an ipc_log_level), for the whole process. NULL ends that; a line that
 another thread is writing meanwhile may still come. Without it nothing is written anywhere.

 Any thread, any time; meant to be called once: each call keeps some bytes for good. Since 0.1.
 */
void ipc_set_log(ipc_log_fn function,
                 void *user_data,
                 uint32_t level);

/*
 Fills options with the defaults: all zero but the size. `size` is sizeof(ipc_options) in the calling program.

 Returns IPC_OK, or IPC_INVALID if options is NULL or the size too small. Any thread. Since 0.1.
 */
ipc_result ipc_options_init(struct ipc_options *options, size_t size);

/*
 Waits for the next message and has it read in place. It stays valid until the next call of the receiving half that is given this
 connection (but for ipc_message_files and ipc_recv_fd), which gives its space back first; ipc_release does only that.

 timeout_ns: how long to wait; 0: not at all; negative: without end. message: filled; all zero on failure.
 Returns IPC_OK; IPC_WOULD_BLOCK, IPC_TIMED_OUT: none came; IPC_DISCONNECTED, IPC_PEER_DIED: none will come, and all that were sent were
 received; IPC_VIOLATION; IPC_FORKED; IPC_SYSTEM (no descriptor or address space for it: it stays the next); IPC_INVALID; IPC_CLOSED.
 Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_recv(struct ipc_connection *connection,
                    struct ipc_message *message,
                    int64_t timeout_ns);

/*
 Waits for the next message and copies it to buffer. A large one is copied out while its sender still copies it in.

 buffer: capacity bytes; may be NULL if capacity is 0. len: bytes in the message, if not NULL; with IPC_TOO_SHORT what the buffer must
 have, and the message stays the next. timeout_ns and other results as for ipc_recv. Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_recv_into(struct ipc_connection *connection,
                         void *buffer,
                         size_t capacity,
                         size_t *len,
                         int64_t timeout_ns);

/*
 Waits for at least one message and has those that are there read in place, at most capacity. All stay valid as the one of ipc_recv does; their
 space is given back at once, which is faster than one by one.

 messages: capacity of them, at least 1; the first count are filled. If the last one has files beside it, ipc_message_files takes them.
 timeout_ns and results as for ipc_recv. Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_recv_many(struct ipc_connection *connection,
                         struct ipc_message *messages,
                         size_t capacity,
                         size_t *count,
                         int64_t timeout_ns);

/*
 Waits for at least one message and begins to read those that are there, at most limit (0: without limit), with ipc_recv_next. All stay valid as
 the one of ipc_recv does.

 timeout_ns and results as for ipc_recv. Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_recv_batch(struct ipc_connection *connection,
                          uint64_t limit,
                          int64_t timeout_ns);

/*
 The next message of the batch that ipc_recv_batch began. It never waits. ipc_recv_next is the same without a call where that is possible.

 message: filled; all zero on failure. Its files, if there are any, are to be taken before the next one is asked for.
 Returns IPC_OK; IPC_WOULD_BLOCK: nothing more is there, or the batch has as many as were asked for; IPC_BUSY if no batch was begun;
 IPC_VIOLATION; IPC_SYSTEM; IPC_INVALID; IPC_CLOSED. Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_recv_batch_next(struct ipc_connection *connection,
                               struct ipc_message *message);

/*
 Gives the space of what ipc_recv or ipc_recv_many gave back, if there is any. To be called before a long wait for something else.

 Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_release(struct ipc_connection *connection);

/*
 Takes the files beside the message that is being read (the last one of ipc_recv_many). They are the caller's then, close-on-exec, and to
 be closed by it; those that are not taken are closed with the message.

 fds: capacity of them, at least as many as the message says; count: how many there are.
 Returns IPC_OK; IPC_TOO_SHORT, with the number in count, and none are taken; IPC_BUSY if no message is being read; IPC_INVALID; IPC_CLOSED.
 Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_message_files(struct ipc_connection *connection,
                             int *fds,
                             size_t capacity,
                             size_t *count);

/*
 What a result means, in a few words: a text that is never freed, also for a number that is no result.

 Any thread, any time. Since 0.1.
 */
const char *ipc_strerror(int32_t result);

/*
 Fixes how the lanes of messages are chosen: route is an ipc_route, value what it says.

 Returns IPC_OK; IPC_NO_LANE if this connection does not have it; IPC_BUSY; IPC_INVALID; IPC_CLOSED.
 Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_set_route(struct ipc_connection *connection, uint32_t route, uint64_t value);

/*
 Writes how messages are routed at the moment as a text: "inline up to 5000 B, then arena up to 268435456 B, ...".

 text: capacity bytes; what does not fit is cut, and it always ends in a NUL. len: bytes of the whole text without its end, if not NULL.
 Returns IPC_OK; IPC_BUSY; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_route_text(struct ipc_connection *connection,
                          char *text,
                          size_t capacity,
                          size_t *len);

/*
 Sends a copy of len bytes as one message, on the lane that costs least. Wakes the peer only if it sleeps.

 data: may be NULL if len is 0. timeout_ns: how long to wait for room; 0: not at all; negative: without end.
 Returns IPC_OK; IPC_WOULD_BLOCK, IPC_TIMED_OUT: the peer has made no room; IPC_TOO_LARGE: more than the peer accepts (or, without a
 wait, than can be on its way at once); IPC_DISCONNECTED; IPC_VIOLATION; IPC_NO_MEMORY; IPC_NO_LANE; IPC_BUSY; IPC_FORKED;
 IPC_SYSTEM; IPC_INVALID; IPC_CLOSED. Unless it is IPC_OK, nothing was sent.
 Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_send(struct ipc_connection *connection,
                    const void *data,
                    size_t len,
                    int64_t timeout_ns);

/*
 Sends the slices, one behind the other, as one message.

 slices: count of them. timeout_ns and results as for ipc_send.
 Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_send_vectored(struct ipc_connection *connection,
                             const struct ipc_slice *slices,
                             size_t count,
                             int64_t timeout_ns);

/*
 Sends a copy of len bytes with files beside them: the receiver gets descriptors of its own for the same open files, sockets or
 buffers (ipc_message_files). The caller's stay open and its own.

 fds: count open descriptors, at most 63. Otherwise as ipc_send; and IPC_TOO_MANY_FILES.
 Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_send_with_files(struct ipc_connection *connection,
                               const void *data,
                               size_t len,
                               const int *fds,
                               size_t count,
                               int64_t timeout_ns);

/*
 Sends count messages, published together: faster than one by one, for this side and for the peer.

 messages: count of them. sent: how many were sent, if not NULL; all unless a result says why not.
 timeout_ns: how long to wait for room, for each message; 0: not at all, then those that there was room for are sent.
 Returns as ipc_send, of the first message that was not sent. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_send_many(struct ipc_connection *connection,
                         const struct ipc_slice *messages,
                         size_t count,
                         int64_t timeout_ns,
                         size_t *sent);

/*
 Wakes the peer if it sleeps and messages wait for it that coalesce_messages and coalesce_ns put off.

 Returns IPC_OK; IPC_BUSY; IPC_DISCONNECTED; IPC_VIOLATION; IPC_FORKED; IPC_INVALID; IPC_CLOSED.
 Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_flush(struct ipc_connection *connection);

/*
 Gives memory beside the ring back to the system that was not used for at least idle_ns, as far as that goes without waiting.
 Connections that go on sending do so by themselves after 10 s.

 given_back: bytes, if not NULL. Returns as ipc_flush. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_trim(struct ipc_connection *connection,
                    uint64_t idle_ns,
                    uint64_t *given_back);

/*
 Asks the kernel whether the peer is gone. A sender that sleeps or fills the ring learns it anyway; one that sends now and then can ask.

 Returns IPC_OK if it is there; IPC_DISCONNECTED if not, and then nothing can be sent any more; IPC_BUSY; IPC_VIOLATION; IPC_FORKED;
 IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_check_peer(struct ipc_connection *connection);

/*
 Hands over the messages that the peer has not consumed, oldest first. For a peer that is gone: what it never got, to be sent to
 another one. Files beside them are not among it; a hostile peer may have changed what was not a loan or a file. Calls function,
 which must not use this connection, for each.

 count: how many there are, if not NULL. function: may be NULL, to count them. Returns IPC_OK; IPC_BUSY; IPC_VIOLATION if the peer
 destroyed them; IPC_NO_MEMORY; IPC_FORKED; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_undelivered(struct ipc_connection *connection,
                           ipc_message_fn function,
                           void *user_data,
                           size_t *count);

/*
 Fills status, whose size must be set. Counting takes a time that grows with the messages in the ring.

 Returns IPC_OK; IPC_BUSY; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_get_send_status(struct ipc_connection *connection, struct ipc_send_status *status);

/*
 Fills status, whose size must be set. Counting takes a time that grows with the messages in the ring.

 Returns IPC_OK; IPC_BUSY if a message is being read; IPC_INVALID; IPC_CLOSED. Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_get_recv_status(struct ipc_connection *connection, struct ipc_recv_status *status);

/*
 The version of the library in use: first number * 65536 + second number * 256 + third number.

 Any thread, any time. Since 0.1.
 */
uint32_t ipc_version(void);

/*
 The same as a text, "0.1.0", that is never freed.

 Any thread, any time. Since 0.1.
 */
const char *ipc_version_text(void);

/*
 The descriptor of the receiving half, for poll and epoll (readable). It says something only between ipc_recv_arm and the next call that
 receives. It stays the library's: do not read or close it. -1 if the handle is NULL or closed.

 Thread: the receiving half's. Since 0.1.
 */
int ipc_recv_fd(struct ipc_connection *connection);

/*
 To be called before each sleep on the descriptor of the receiving half, once ipc_recv with timeout 0 has found nothing.

 armed: 1 if nothing is there and the descriptor becomes readable when something comes or the peer goes; 0 if it is worth trying to
 receive, and calling this, again now. Gives back what was being read. Returns IPC_OK; otherwise as ipc_recv.
 Thread: the receiving half's. Since 0.1.
 */
ipc_result ipc_recv_arm(struct ipc_connection *connection,
                        int *armed);

/*
 The descriptor of the sending half, for poll and epoll (readable, not writable). It says something only between ipc_send_arm and the
 next call that sends. It stays the library's: do not read or close it. -1 if the handle is NULL or closed.

 Thread: the sending half's. Since 0.1.
 */
int ipc_send_fd(struct ipc_connection *connection);

/*
 To be called before each sleep on the descriptor of the sending half, once a call with timeout 0 returned IPC_WOULD_BLOCK.

 armed: 1 if there is still no room and the descriptor becomes readable when there is some or the peer goes; 0 if it is worth trying
 again now. Returns IPC_OK; IPC_BUSY; IPC_VIOLATION; IPC_FORKED; IPC_INVALID; IPC_CLOSED.
 Thread: the sending half's. Since 0.1.
 */
ipc_result ipc_send_arm(struct ipc_connection *connection,
                        int *armed);

/*
 Chooses how calls of both halves wait: an ipc_wait, and with IPC_WAIT_ADAPTIVE for how long to poll, in ns (0: 50000).

 Returns IPC_OK; IPC_BUSY if something is open or a message is being read; IPC_INVALID; IPC_CLOSED. Otherwise than with IPC_OK nothing has changed.
 While no other call with this handle runs. Since 0.1.
 */
ipc_result ipc_set_wait(struct ipc_connection *connection,
                        uint32_t wait,
                        uint64_t spin_ns);

/*
 * Code that runs in the program itself, without a call: one message of a batch. What it knows of a handle is fixed for all versions
 * of this interface; a library that wants to be asked says so through the limits.
 */
#if defined(__GNUC__)

struct ipc_send_window {
    unsigned char *base;
    uint64_t end, limit, longest, stamp, records;
};

struct ipc_recv_window {
    const unsigned char *base;
    uint64_t index, limit, longest, stamp, left, read;
    uint32_t lane, reserved;
};

/*
 As ipc_batch_push.

 Thread: the sending half's. Since 0.1.
 */
static inline ipc_result ipc_batch_add(ipc_connection *connection, const void *data, size_t len, int64_t timeout_ns) {
    struct ipc_send_window *window = (struct ipc_send_window *)(void *)connection;
    if (connection != NULL && (data != NULL || len == 0)) {
        uint64_t end = window->end;
        if ((len <= window->longest) & (end + 8 + len <= window->limit)) {
            unsigned char *record = window->base + end;
            if (len > 0) { __builtin_memcpy(record + 8, data, len); }
            /* Published together with the first record of the batch, by the call that publishes it. */
            __atomic_store_n((uint64_t *)(void *)record, window->stamp | len, __ATOMIC_RELAXED);
            window->end = (end + 8 + len + 7) & ~(uint64_t)7;
            window->records++;
#if defined(__x86_64__)
            /* By hand: the builtin is a prefetch for reading where the compiler does not know that there is this one. */
            __asm__ volatile("prefetchw %0" : : "m"(*(record + 512)));
#else
            __builtin_prefetch(record + 512, 1);
#endif
            return IPC_OK;
        }
    }
    return ipc_batch_push(connection, data, len, timeout_ns);
}

/*
 As ipc_recv_batch_next.

 Thread: the receiving half's. Since 0.1.
 */
static inline ipc_result ipc_recv_next(ipc_connection *connection, ipc_message *message) {
    unsigned char *start = (unsigned char *)(void *)connection;
    if (connection != NULL && message != NULL && ((struct ipc_recv_window *)(void *)(start + 128))->left > 0) {
        struct ipc_recv_window *window = (struct ipc_recv_window *)(void *)(start + 128);
        uint64_t index = window->index;
        const unsigned char *record = window->base + index;
        /* Read once: a hostile peer may change it. Takes over the bytes of the publication. */
        uint64_t header = __atomic_load_n((const uint64_t *)(const void *)record, __ATOMIC_ACQUIRE);
        uint64_t len = header & UINT32_MAX;
        if (((header ^ window->stamp) >> 32 == 0) & (len <= window->longest) & (index + 8 + len < window->limit)) {
            message->data = record + 8;
            message->len = (size_t)len;
            message->lane = window->lane;
            message->flags = 0;
            message->files = 0;
            message->reserved = 0;
            window->index = (index + 8 + len + 7) & ~(uint64_t)7;
            window->left--;
            window->read++;
            return IPC_OK;
        }
    }
    return ipc_recv_batch_next(connection, message);
}

#else
#define ipc_batch_add(connection, data, len, timeout_ns) ipc_batch_push(connection, data, len, timeout_ns)
#define ipc_recv_next(connection, message) ipc_recv_batch_next(connection, message)
#endif

/*
 * The library was compiled with these sizes, alignments and offsets: a compiler, or a flag of it, that has others says so here.
 */
#if UINTPTR_MAX == 0xffffffffffffffff && (defined(__cplusplus) || __STDC_VERSION__ >= 201112L)
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
#define IPC_KEEP(condition) static_assert(condition, #condition)
#define IPC_ALIGNOF(type) alignof(type)
#else
#define IPC_KEEP(condition) _Static_assert(condition, #condition)
#define IPC_ALIGNOF(type) _Alignof(type)
#endif
IPC_KEEP(sizeof(struct ipc_cost) == 56);
IPC_KEEP(IPC_ALIGNOF(struct ipc_cost) == 8);
IPC_KEEP(offsetof(struct ipc_cost, size) == 0);
IPC_KEEP(offsetof(struct ipc_cost, origin) == 8);
IPC_KEEP(offsetof(struct ipc_cost, reserved) == 12);
IPC_KEEP(offsetof(struct ipc_cost, fixed_ns) == 16);
IPC_KEEP(offsetof(struct ipc_cost, per_byte_ns) == 24);
IPC_KEEP(offsetof(struct ipc_cost, knee) == 32);
IPC_KEEP(offsetof(struct ipc_cost, fixed_beyond_ns) == 40);
IPC_KEEP(offsetof(struct ipc_cost, per_byte_beyond_ns) == 48);
IPC_KEEP(sizeof(struct ipc_peer) == 16);
IPC_KEEP(IPC_ALIGNOF(struct ipc_peer) == 4);
IPC_KEEP(offsetof(struct ipc_peer, pid) == 0);
IPC_KEEP(offsetof(struct ipc_peer, uid) == 4);
IPC_KEEP(offsetof(struct ipc_peer, gid) == 8);
IPC_KEEP(offsetof(struct ipc_peer, pidfd) == 12);
IPC_KEEP(sizeof(struct ipc_options) == 168);
IPC_KEEP(IPC_ALIGNOF(struct ipc_options) == 8);
IPC_KEEP(offsetof(struct ipc_options, size) == 0);
IPC_KEEP(offsetof(struct ipc_options, mode) == 8);
IPC_KEEP(offsetof(struct ipc_options, flags) == 12);
IPC_KEEP(offsetof(struct ipc_options, wait) == 16);
IPC_KEEP(offsetof(struct ipc_options, permissions) == 20);
IPC_KEEP(offsetof(struct ipc_options, spin_ns) == 24);
IPC_KEEP(offsetof(struct ipc_options, timeout_ns) == 32);
IPC_KEEP(offsetof(struct ipc_options, ring_to_server) == 40);
IPC_KEEP(offsetof(struct ipc_options, ring_to_client) == 48);
IPC_KEEP(offsetof(struct ipc_options, max_connections) == 56);
IPC_KEEP(offsetof(struct ipc_options, max_memory) == 64);
IPC_KEEP(offsetof(struct ipc_options, credit_messages) == 72);
IPC_KEEP(offsetof(struct ipc_options, credit_arena) == 80);
IPC_KEEP(offsetof(struct ipc_options, credit_message) == 88);
IPC_KEEP(offsetof(struct ipc_options, coalesce_messages) == 96);
IPC_KEEP(offsetof(struct ipc_options, coalesce_ns) == 104);
IPC_KEEP(offsetof(struct ipc_options, users) == 112);
IPC_KEEP(offsetof(struct ipc_options, user_count) == 120);
IPC_KEEP(offsetof(struct ipc_options, admit) == 128);
IPC_KEEP(offsetof(struct ipc_options, admit_data) == 136);
IPC_KEEP(offsetof(struct ipc_options, payload_name) == 144);
IPC_KEEP(offsetof(struct ipc_options, payload_size) == 152);
IPC_KEEP(offsetof(struct ipc_options, payload_align) == 160);
IPC_KEEP(sizeof(struct ipc_message) == 32);
IPC_KEEP(IPC_ALIGNOF(struct ipc_message) == 8);
IPC_KEEP(offsetof(struct ipc_message, data) == 0);
IPC_KEEP(offsetof(struct ipc_message, len) == 8);
IPC_KEEP(offsetof(struct ipc_message, lane) == 16);
IPC_KEEP(offsetof(struct ipc_message, flags) == 20);
IPC_KEEP(offsetof(struct ipc_message, files) == 24);
IPC_KEEP(offsetof(struct ipc_message, reserved) == 28);
IPC_KEEP(sizeof(struct ipc_listener_status) == 32);
IPC_KEEP(IPC_ALIGNOF(struct ipc_listener_status) == 8);
IPC_KEEP(offsetof(struct ipc_listener_status, size) == 0);
IPC_KEEP(offsetof(struct ipc_listener_status, connections) == 8);
IPC_KEEP(offsetof(struct ipc_listener_status, refused) == 16);
IPC_KEEP(offsetof(struct ipc_listener_status, last_refusal) == 24);
IPC_KEEP(offsetof(struct ipc_listener_status, reserved) == 28);
IPC_KEEP(sizeof(struct ipc_slice) == 16);
IPC_KEEP(IPC_ALIGNOF(struct ipc_slice) == 8);
IPC_KEEP(offsetof(struct ipc_slice, data) == 0);
IPC_KEEP(offsetof(struct ipc_slice, len) == 8);
IPC_KEEP(sizeof(struct ipc_send_status) == 104);
IPC_KEEP(IPC_ALIGNOF(struct ipc_send_status) == 8);
IPC_KEEP(offsetof(struct ipc_send_status, size) == 0);
IPC_KEEP(offsetof(struct ipc_send_status, sent) == 8);
IPC_KEEP(offsetof(struct ipc_send_status, consumed) == 16);
IPC_KEEP(offsetof(struct ipc_send_status, sleeps) == 24);
IPC_KEEP(offsetof(struct ipc_send_status, ring_capacity) == 32);
IPC_KEEP(offsetof(struct ipc_send_status, ring_used) == 40);
IPC_KEEP(offsetof(struct ipc_send_status, arena_size) == 48);
IPC_KEEP(offsetof(struct ipc_send_status, arena_limit) == 56);
IPC_KEEP(offsetof(struct ipc_send_status, arena_used) == 64);
IPC_KEEP(offsetof(struct ipc_send_status, arena_blocks) == 72);
IPC_KEEP(offsetof(struct ipc_send_status, max_message) == 80);
IPC_KEEP(offsetof(struct ipc_send_status, max_reservation) == 88);
IPC_KEEP(offsetof(struct ipc_send_status, credit_messages) == 96);
IPC_KEEP(sizeof(struct ipc_recv_status) == 56);
IPC_KEEP(IPC_ALIGNOF(struct ipc_recv_status) == 8);
IPC_KEEP(offsetof(struct ipc_recv_status, size) == 0);
IPC_KEEP(offsetof(struct ipc_recv_status, received) == 8);
IPC_KEEP(offsetof(struct ipc_recv_status, sleeps) == 16);
IPC_KEEP(offsetof(struct ipc_recv_status, ring_capacity) == 24);
IPC_KEEP(offsetof(struct ipc_recv_status, ring_used) == 32);
IPC_KEEP(offsetof(struct ipc_recv_status, waiting) == 40);
IPC_KEEP(offsetof(struct ipc_recv_status, mapped) == 48);
#if defined(__GNUC__)
IPC_KEEP(sizeof(struct ipc_send_window) == 48);
IPC_KEEP(IPC_ALIGNOF(struct ipc_send_window) == 8);
IPC_KEEP(offsetof(struct ipc_send_window, base) == 0);
IPC_KEEP(offsetof(struct ipc_send_window, end) == 8);
IPC_KEEP(offsetof(struct ipc_send_window, limit) == 16);
IPC_KEEP(offsetof(struct ipc_send_window, longest) == 24);
IPC_KEEP(offsetof(struct ipc_send_window, stamp) == 32);
IPC_KEEP(offsetof(struct ipc_send_window, records) == 40);
IPC_KEEP(sizeof(struct ipc_recv_window) == 64);
IPC_KEEP(IPC_ALIGNOF(struct ipc_recv_window) == 8);
IPC_KEEP(offsetof(struct ipc_recv_window, base) == 0);
IPC_KEEP(offsetof(struct ipc_recv_window, index) == 8);
IPC_KEEP(offsetof(struct ipc_recv_window, limit) == 16);
IPC_KEEP(offsetof(struct ipc_recv_window, longest) == 24);
IPC_KEEP(offsetof(struct ipc_recv_window, stamp) == 32);
IPC_KEEP(offsetof(struct ipc_recv_window, left) == 40);
IPC_KEEP(offsetof(struct ipc_recv_window, read) == 48);
IPC_KEEP(offsetof(struct ipc_recv_window, lane) == 56);
IPC_KEEP(offsetof(struct ipc_recv_window, reserved) == 60);
#endif
IPC_KEEP(sizeof(ipc_result) == 4);
IPC_KEEP(sizeof(ipc_mode) == 4);
IPC_KEEP(sizeof(ipc_wait) == 4);
IPC_KEEP(sizeof(ipc_lane) == 4);
IPC_KEEP(sizeof(ipc_route) == 4);
IPC_KEEP(sizeof(ipc_refusal) == 4);
IPC_KEEP(sizeof(ipc_log_level) == 4);
IPC_KEEP(sizeof(ipc_calibration_origin) == 4);
#undef IPC_KEEP
#undef IPC_ALIGNOF
#endif

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* IPC_H */
