//! What the options of both sides of a connection have in common.

/// The methods for a structure with the fields `policy`, `segment`, `strategy`, `membarrier`, `mode`, `credit`, `payload` and
/// `coalescing`.
macro_rules! common_options {
    () => {
        /// Which users' processes are accepted as peers. Default: our own.
        pub fn policy(mut self, policy: crate::PeerPolicy) -> Self {
            self.policy = policy;
            self
        }

        /// How segments are made or mapped.
        pub fn segment(mut self, options: crate::SegmentOptions) -> Self {
            self.segment = options;
            self
        }

        /// How blocking calls of connections wait.
        pub fn wait_strategy(mut self, strategy: crate::WaitStrategy) -> Self {
            self.strategy = strategy;
            self
        }

        /// Which lanes connections have. The peer may want fewer; it gets them. Default: all.
        pub fn mode(mut self, mode: crate::Mode) -> Self {
            self.mode = mode;
            self
        }

        /// How many messages and bytes the peer may have on the way to our receiver, or held by it. Default: [`Credit`](crate::Credit)'s.
        pub fn credit(mut self, credit: crate::Credit) -> Self {
            self.credit = credit;
            self
        }

        /// Says that every message is a `P`, or a sequence of them. A peer that says so of another type, by name, size or alignment, is
        /// refused; one that says nothing is not.
        pub fn payload<P: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable>(self) -> Self {
            self.payload_type(crate::PayloadType::of::<P>())
        }

        /// As [`payload`](Self::payload), for a type that is given by name, size and alignment: for peers in other languages, which do not
        /// know the names of Rust's types.
        pub fn payload_type(mut self, payload: crate::PayloadType) -> Self {
            self.payload = Some(payload);
            self
        }

        /// Puts off waking the peer's receiver while it sleeps: until `messages` messages wait for it, or `delay` has passed since the
        /// first of them was sent, whichever comes first. Default: it is woken at once.
        ///
        /// A wake-up costs some microseconds on both sides; this way several messages share one. Each message is visible at once, so a
        /// receiver that is awake gets it without delay. The delay holds even if this process stops or dies right after sending: the
        /// kernel keeps the time. It is longest, `delay`, for the first message of those that share a wake-up.
        ///
        /// A sender that has to wait (for room, say) wakes the receiver first. One that waits for an answer should call
        /// [`Sender::flush`](crate::Sender::flush) before.
        ///
        /// Fewer than two messages, or no delay, mean that nothing is put off. The modes [`Kernel`](crate::Mode::Kernel) and
        /// [`Hybrid`](crate::Mode::Hybrid) ignore this: there each message is a system call that wakes the receiver. The peer's sender has
        /// its own choice.
        pub fn coalesce(mut self, messages: u64, delay: std::time::Duration) -> Self {
            self.coalescing = crate::sender::Coalescing::new(messages, delay);
            self
        }

        /// Whether to use `membarrier(2)` where both sides have it; fences otherwise. Default: true.
        pub fn membarrier(mut self, wanted: bool) -> Self {
            self.membarrier = wanted;
            self
        }
    };
}
pub(crate) use common_options;
