//! Answers as models write them, in LaTeX, Markdown and Unicode: what is read, and what is not. No part of a number passes for
//! the number.

#![expect(clippy::unwrap_used, reason = "tests")]

use aloud_tasks::extract::{Scoring, extract_answer};
use aloud_tasks::gsm8k_scorers::Gsm8kScorer;
use aloud_tasks::number::Number;
use aloud_tasks::reward::{Completion, numeric_or_text_reward};

/// (completion, strict, flexible); nothing where no answer is to be found.
const ANSWERS: &[(&str, &str, &str)] = &[
    // The golden table of the evaluation rules.
    ("#### 18", "18", "18"),
    ("#### 18.", "18", "18"),
    ("#### $18", "18", "18"),
    ("####18", "18", "18"),
    ("#### 1,234", "1234", "1234"),
    ("The answer is 18.", "", "18"),
    (r"\boxed{42}", "", "42"),
    ("-7 degrees", "", "-7"),
    ("total 5 ... then 7 ...", "", "7"),
    ("x = 3.50", "", "3.5"),
    ("between 5-7", "", "7"),
    ("1,2,3", "", "3"),
    ("no digits at all", "", ""),
    ("<think>it is 12, #### 12</think> I am not sure.", "", ""),
    ("#### 1</think>#### 2</think>#### 3", "3", "3"),
    // The order of the flexible rules.
    ("#### 1\nThe answer is 2, \\boxed{3}, 4", "1", "1"),
    (r"The answer is 2, \boxed{3}, 4", "", "3"),
    ("The answer is 2, or 4", "", "2"),
    ("**Answer:** 2 (of 4)", "", "2"),
    ("ANSWER: 2 (of 4)", "", "2"),
    ("The answer is unknown, 4 or 5", "", "5"),
    ("The answer is 3. The answer is clear. 9", "", "3"),
    // The last match wins, and failed matches do not count.
    ("#### 1\nQuestion: …\n#### 2", "2", "2"),
    ("#### 1\n#### none", "1", "1"),
    ("###### 5", "5", "5"),
    ("#####5", "5", "5"),
    ("### 5", "", "5"),
    ("####\n5", "", "5"),
    ("#### -3", "-3", "-3"),
    ("####-3", "-3", "-3"),
    ("#### about 5", "", "5"),
    // Thousands.
    (r"\boxed{70{,}000}", "", "70000"),
    (r"\boxed{70\,000}", "", "70000"),
    (r"\boxed{1{,}234{,}567.50}", "", "1234567.5"),
    (r"\boxed{70,\!000}", "", "70000"),
    (r"\boxed{70~000}", "", "70000"),
    ("#### 70\u{202f}000", "70000", "70000"),
    ("#### 70\u{a0}000", "70000", "70000"),
    ("The answer is 70\u{2009}000.", "", "70000"),
    ("#### 70 000", "70000", "70000"),
    ("#### 1'234'567", "1234567", "1234567"),
    ("#### 1_000", "1000", "1000"),
    // Commas that could be a point are no number.
    ("#### 70,00", "", ""),
    ("The answer is 3,5.", "", ""),
    ("#### 12,34,567", "", ""),
    // Signs.
    ("\\boxed{\u{2212}3}", "", "-3"),
    ("It is \u{2212}3 degrees", "", "-3"),
    ("#### \u{2212}3", "-3", "-3"),
    ("#### \u{2013}3", "-3", "-3"),
    (r"\boxed{- 3}", "", "-3"),
    (r"\boxed{x = - 3}", "", "-3"),
    (r"\boxed{-\$5}", "", "-5"),
    ("#### -$1,200.50", "-1200.5", "-1200.5"),
    ("#### +4", "4", "4"),
    (r"\boxed{\pm 3}", "", ""),
    (r"\boxed{-(3)}", "", ""),
    // Fractions.
    (r"\boxed{\frac{1}{2}}", "", "0.5"),
    (r"\boxed{-\dfrac{22}{7}}", "", "-22/7"),
    (r"\boxed{2\frac{1}{2}}", "", "2.5"),
    (r"\boxed{\frac34}", "", "0.75"),
    ("#### 3/4", "0.75", "0.75"),
    (r"\boxed{\frac{x}{2}}", "", ""),
    (r"\boxed{\frac{\sqrt{3}}{2}}", "", ""),
    ("#### 12/05/2024", "", ""),
    ("#### 0.333...", "", ""),
    // Powers.
    (r"\boxed{5 \times 10^3}", "", "5000"),
    (r"\boxed{5 \times 10^{-2}}", "", "0.05"),
    (r"\boxed{1.5 \cdot 10^{3} \text{ m}}", "", "1500"),
    ("#### 1.5e3", "1500", "1500"),
    ("#### 5×10³", "5000", "5000"),
    ("#### 10⁻²", "0.01", "0.01"),
    (r"\boxed{10^6}", "", "1000000"),
    (r"\boxed{2^5}", "", ""),
    (r"\boxed{5 \times 10}", "", ""),
    // Units, words, currency, percent.
    (r"\boxed{18 \text{ eggs for 3 days}}", "", "18"),
    (r"\boxed{\text{about } 42}", "", "42"),
    (r"\boxed{\$18}", "", "18"),
    (r"\boxed{18\%}", "", "18"),
    (r"\boxed{90^\circ}", "", "90"),
    (r"\boxed{49 \text{ cm}^2}", "", "49"),
    (r"\boxed{60 \text{ km/h}}", "", "60"),
    (r"\boxed{\mathbf{18}}", "", "18"),
    ("The area is 49 m^2", "", "49"),
    ("#### €18", "18", "18"),
    ("#### US$18", "18", "18"),
    ("#### 18 eggs", "18", "18"),
    ("#### 3 million dollars", "3000000", "3000000"),
    ("答案是18个。", "", "18"),
    ("\\boxed{70万}", "", "700000"),
    ("\\boxed{１８}", "", "18"),
    ("#### 50k", "", ""),
    (r"\boxed{2\pi}", "", ""),
    (r"\boxed{3\sqrt{2}}", "", ""),
    (r"\boxed{2\sqrt[3]{8}}", "", ""),
    (r"\boxed{\(\$5\)}", "", "5"),
    (r"\boxed{5x}", "", ""),
    (r"\boxed{x + 5}", "", ""),
    // Times, dates, ranges, lists, quantities of two numbers.
    ("#### 12:30", "", ""),
    (r"8 hours, \boxed{12:30}", "", ""),
    ("It ends at 12:30", "", ""),
    ("#### 2024-05-01", "", ""),
    ("#### 5-7", "", ""),
    ("The answer is 5 to 7.", "", ""),
    (r"\boxed{2, 3}", "", ""),
    (r"\boxed{\{2, 3\}}", "", ""),
    ("#### 2 hours 30 minutes", "", ""),
    (r"\boxed{\text{2 hours } 30 \text{ minutes}}", "", ""),
    ("#### 1.2.3", "", ""),
    // What is worked out counts by its result.
    ("#### 3 * 6 = 18", "18", "18"),
    (r"\boxed{3 + 4 = 7}", "", "7"),
    (r"\boxed{x = 5}", "", "5"),
    ("#### 3 + 4", "", ""),
    // Boxes.
    (r"\boxed{4}, no: \boxed{5}", "", "5"),
    (r"\boxed{\boxed{42}}", "", "42"),
    (r"\boxed{5} or \boxed{x}, 9", "", "5"),
    (r"\boxed{5} then \boxed{8", "", "5"),
    (r"\boxed{5} then 8 \boxed{", "", "5"),
    (r"\boxed{\text{about } 42} of 7", "", "42"),
    (r"\[\boxed {42}\]", "", "42"),
    (r"<think>so \boxed{3}</think> **Answer:** $\boxed{18}$", "", "18"),
    // Headings.
    ("#### 42\n\n#### 3. Check\nIt is right.", "42", "42"),
    ("#### 42\n#### 3) Check", "42", "42"),
    ("#### 42\n#### Step 3: Check", "42", "42"),
    ("#### 42.", "42", "42"),
    ("#### 1. Count\n18 eggs", "", "18"),
    // Digits of words, indices and exponents.
    ("The number of H2O", "", ""),
    (r"\boxed{x_1 = 5}", "", "5"),
    ("So x_1 and v1.2", "", ""),
    ("the 3rd day", "", ""),
];

fn number(text: &str) -> Option<Number> {
    (!text.is_empty()).then(|| Number::parse(text).unwrap())
}

#[test]
fn answers_as_models_write_them() {
    assert!(ANSWERS.len() >= 60);
    let mut wrong = Vec::new();
    for &(text, strict, flexible) in ANSWERS {
        let found = [Scoring::Strict, Scoring::Flexible].map(|scoring| extract_answer(text, scoring));
        if found != [number(strict), number(flexible)] {
            wrong.push(format!("{text}: {found:?}, expected {strict:?} and {flexible:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn scorers_and_rewards_read_the_same_answers() {
    for &(text, strict, flexible) in ANSWERS {
        assert_eq!(Gsm8kScorer::Strict.extract(text), number(strict).map(|number| number.to_string()), "{text}");
        assert_eq!(Gsm8kScorer::Flexible.extract(text), number(flexible).map(|number| number.to_string()), "{text}");
        for (scoring, expected) in [(Scoring::Strict, strict), (Scoring::Flexible, flexible)] {
            // Against the right answer, and against one that no completion here gives.
            for (gold, reward) in [(expected, 1.0), ("987654.25", 0.0)] {
                let completion =
                    Completion { id: "a", prompt: "?", response: text, answer: Some(gold), truncated: false };
                if !gold.is_empty() {
                    assert_eq!(numeric_or_text_reward(&completion, scoring).unwrap(), reward, "{text}: {gold}");
                }
            }
        }
    }
}

/// Long texts of the worst kind are read in time that grows with their length.
#[test]
fn long_texts_take_no_long_time() {
    for piece in [
        r"\boxed{",
        r"\sqrt{",
        r"\frac{\frac{",
        "####",
        "1 000 ",
        "1,2,",
        r"\a[",
        "{}}",
        "answer is ",
        "#### 1. a",
        "$ ",
        "1/",
    ] {
        let text = piece.repeat(100_000);
        let start = std::time::Instant::now();
        let _ = extract_answer(&text, Scoring::Flexible);
        assert!(start.elapsed().as_secs() < 20, "{piece}");
    }
}
