//! What the options of both sides of a connection have in common.

/// The methods for a structure with the fields `policy`, `segment`, `strategy` and `membarrier`.
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

        /// Whether to use `membarrier(2)` where both sides have it; fences otherwise. Default: true.
        pub fn membarrier(mut self, wanted: bool) -> Self {
            self.membarrier = wanted;
            self
        }
    };
}
pub(crate) use common_options;
