//! Small aligned text tables for the command line.

use std::fmt;

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At the left: words.
    Left,
    /// At the right: numbers.
    Right,
}

/// A table with a header, written with [`fmt::Display`]: columns two spaces apart, a line under the header, no space at line
/// ends. Widths count characters.
#[derive(Clone, Debug)]
pub struct Table {
    aligns: Vec<Align>,
    /// The header first.
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = (S, Align)>) -> Self {
        let (header, aligns) = columns.into_iter().map(|(name, align)| (clean(&name.into()), align)).unzip();
        Self { aligns, rows: vec![header] }
    }

    /// Adds a row. Missing cells are empty, extra cells are dropped; line ends and control characters become spaces.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        let mut cells: Vec<String> = cells.into_iter().map(|cell| clean(&cell.into())).collect();
        cells.resize(self.aligns.len(), String::new());
        self.rows.push(cells);
        self
    }
}

fn clean(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.aligns.len()).map(width).collect();
        let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        let (header, rows) = self.rows.split_at(1);
        for cells in header.iter().chain([&rule]).chain(rows) {
            let padded: Vec<String> = cells
                .iter()
                .zip(&self.aligns)
                .zip(&widths)
                .map(|((cell, align), width)| match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                })
                .collect();
            writeln!(formatter, "{}", padded.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new([("setting", Align::Left), ("ALS", Align::Right), ("note", Align::Left)]);
        table.row(["off", "0.0 %", ""]).row(["ünïcode", "27.64 %", "two\nlines"]).row(["short"]);
        let expected = "\
setting      ALS  note
───────  ───────  ─────────
off        0.0 %
ünïcode  27.64 %  two lines
short
";
        assert_eq!(table.to_string(), expected);
    }

    proptest! {
        #[test]
        fn one_line_a_row_whatever_the_cells(cells in prop::collection::vec("\\PC*|[\\x00-\\x1f]*", 0..12)) {
            let mut table = Table::new([("a", Align::Left), ("b", Align::Right), ("c", Align::Right)]);
            for row in cells.chunks(4) {
                table.row(row.iter().cloned());
            }
            prop_assert_eq!(table.to_string().matches('\n').count(), 2 + cells.chunks(4).count());
        }
    }
}
