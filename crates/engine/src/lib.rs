//! Stepwise decoding with stochastic early exits that skip computation.
