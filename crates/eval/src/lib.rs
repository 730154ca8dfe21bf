//! Metrics, records of decided tokens, and the token viewer.
