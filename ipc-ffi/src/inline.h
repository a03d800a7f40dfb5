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
