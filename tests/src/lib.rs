//! Helpers of the two-process tests.
