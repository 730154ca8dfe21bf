//! How far measured figures may be from the true ones, and whether differences are more than chance. Numbers in, numbers
//! out; what is random follows from a seed.

mod bootstrap;
mod holm;
mod isotonic;
mod kaplan_meier;
mod mcnemar;
mod pareto;
mod quantile;
mod rank_correlation;
mod resamples;
mod stratified;
mod subset;
mod wilson;

pub(crate) use bootstrap::weighted_sums;
pub use bootstrap::{Bootstrap, Cluster, mean_of_clusters};
pub use holm::holm_adjusted;
pub use isotonic::falling_fit;
pub use kaplan_meier::{Duration, kaplan_meier_median, restricted_mean};
pub use mcnemar::{Discordant, mcnemar_exact};
pub use pareto::{bootstrap_front, covariance, hypervolume};
pub use quantile::{between, quantile, weighted_quantile};
pub use rank_correlation::{PartialRankedPairs, RankedPairs, spearman};
pub use resamples::Resamples;
pub use subset::{choose_items, choose_stratified, items_of_tier};
pub use wilson::{wilson_confidence, wilson_interval};
