//! Limits of what may be spent.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::ChatError;
use crate::message::{ChatRequest, Usage};

/// Bytes of text that are counted as one token before the endpoint has counted. Tokens of common vocabularies are longer on
/// average, so this rather overestimates.
const BYTES_PER_TOKEN: f64 = 3.0;

/// What one million tokens cost, in any currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// A million tokens of requests.
    pub input_per_million: f64,
    /// A million tokens of replies.
    pub output_per_million: f64,
}

impl Prices {
    fn cost(&self, input_tokens: f64, output_tokens: f64) -> f64 {
        (input_tokens * self.input_per_million + output_tokens * self.output_per_million) / 1e6
    }
}

/// Where spending stops.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BudgetLimits {
    /// Number of requests that may be sent, further tries included.
    pub max_calls: Option<u64>,
    /// What all requests together may cost, in the currency of the prices.
    pub max_cost: Option<f64>,
    /// The prices; needed for `max_cost`.
    pub prices: Option<Prices>,
}

impl BudgetLimits {
    fn check(&self) -> Result<(), ChatError> {
        let error = |reason: &str| Err(ChatError::setting("budget", reason));
        let is_amount = |amount: f64| amount.is_finite() && amount >= 0.0;
        if self.max_cost.is_some_and(|cost| !is_amount(cost)) {
            return error("the largest cost must be a number from 0 up");
        }
        match self.prices {
            None if self.max_cost.is_some() => error("a largest cost needs the prices of a million tokens"),
            Some(prices) if !is_amount(prices.input_per_million) || !is_amount(prices.output_per_million) => {
                error("prices must be numbers from 0 up")
            }
            _ => Ok(()),
        }
    }
}

/// What was spent so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent {
    pub(super) n_calls: u64,
    pub(super) usage: Usage,
    /// Cost of the finished requests.
    pub(super) cost: f64,
    /// Estimated cost of the requests that are on their way.
    reserved: f64,
    /// Which limit stopped a request.
    pub(super) reached: Option<String>,
}

/// What a request that was sent turned out to cost.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bill {
    /// Nothing: it was refused, or never arrived.
    Nothing,
    /// What the endpoint counted.
    Counted(Usage),
    /// Not known (no count, or no answer in time): the estimate is charged.
    Unknown,
}

/// Counts what is spent, and refuses what would pass a limit, from any number of threads.
#[derive(Debug)]
pub(super) struct Budget {
    limits: BudgetLimits,
    spent: Mutex<Spent>,
}

impl Budget {
    pub(super) fn new(limits: BudgetLimits) -> Result<Self, ChatError> {
        limits.check()?;
        Ok(Self { limits, spent: Mutex::default() })
    }

    /// Takes one call and its estimated cost out of the budget, before it is sent. The estimate comes back, for
    /// [`Budget::settle`].
    pub(super) fn reserve(&self, request: &ChatRequest) -> Result<f64, ChatError> {
        let n_bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let estimate = self.limits.prices.map_or(0.0, |prices| {
            prices.cost((n_bytes as f64 / BYTES_PER_TOKEN).ceil(), f64::from(request.max_tokens))
        });
        let mut spent = self.lock();
        let reached = match self.limits {
            BudgetLimits { max_calls: Some(max_calls), .. } if spent.n_calls >= max_calls => {
                Some(format!("{max_calls} calls allowed, {} made", spent.n_calls))
            }
            BudgetLimits { max_cost: Some(max_cost), .. } if spent.cost + spent.reserved + estimate > max_cost => {
                let under_way = spent.cost + spent.reserved;
                Some(format!(
                    "cost {max_cost} allowed, {under_way:.6} spent or under way, and the next call may cost {estimate:.6}"
                ))
            }
            _ => None,
        };
        if let Some(reason) = reached {
            spent.reached.get_or_insert_with(|| reason.clone());
            return Err(ChatError::Budget { reason });
        }
        spent.n_calls += 1;
        spent.reserved += estimate;
        Ok(estimate)
    }

    /// Replaces an estimate by what the call did cost.
    pub(super) fn settle(&self, estimate: f64, bill: Bill) {
        let mut spent = self.lock();
        spent.reserved -= estimate;
        match bill {
            Bill::Nothing => {}
            Bill::Unknown => spent.cost += estimate,
            Bill::Counted(usage) => {
                spent.usage += usage;
                let (input, output) = (usage.input_tokens as f64, usage.output_tokens as f64);
                spent.cost += self.limits.prices.map_or(0.0, |prices| prices.cost(input, output));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spent(&self) -> Spent {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::message::ChatMessage;

    /// 300 bytes: 100 tokens.
    fn request() -> ChatRequest {
        ChatRequest { messages: vec![ChatMessage::user("x".repeat(300))], max_tokens: 50, ..ChatRequest::default() }
    }

    #[test]
    fn what_is_under_way_counts() {
        let prices = Prices { input_per_million: 10_000.0, output_per_million: 20_000.0 };
        let limits = BudgetLimits { max_calls: None, max_cost: Some(4.5), prices: Some(prices) };
        let budget = Budget::new(limits).unwrap();
        // 100 * 0.01 + 50 * 0.02 = 2 a call: two fit, a third does not until the first turns out cheaper.
        let first = budget.reserve(&request()).unwrap();
        assert_eq!(first, 2.0);
        budget.reserve(&request()).unwrap();
        assert!(matches!(budget.reserve(&request()), Err(ChatError::Budget { .. })));
        budget.settle(first, Bill::Counted(Usage { input_tokens: 10, output_tokens: 20 }));
        let third = budget.reserve(&request()).unwrap();
        budget.settle(third, Bill::Unknown);
        let spent = budget.spent();
        assert_eq!((spent.n_calls, spent.cost), (3, 0.1 + 0.4 + 2.0));
        // What cost nothing was a call all the same.
        let budget = Budget::new(BudgetLimits { max_calls: Some(1), ..BudgetLimits::default() }).unwrap();
        budget.settle(budget.reserve(&request()).unwrap(), Bill::Nothing);
        let error = budget.reserve(&request()).unwrap_err().to_string();
        assert_eq!(error, "the budget is used up: 1 calls allowed, 1 made");
        assert!(spent.reached.unwrap().contains("cost 4.5 allowed, 4.000000 spent or under way"));
    }

    #[test]
    fn limits_are_checked() {
        let prices = Some(Prices { input_per_million: 1.0, output_per_million: f64::NAN });
        for (limits, expected) in [
            (BudgetLimits { max_cost: Some(1.0), ..BudgetLimits::default() }, "needs the prices"),
            (BudgetLimits { max_cost: Some(-1.0), ..BudgetLimits::default() }, "from 0 up"),
            (BudgetLimits { prices, ..BudgetLimits::default() }, "prices must be"),
        ] {
            let error = Budget::new(limits).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
