//! Cosines and sines of rotary positions, computed as far as they are used.

use std::sync::{Arc, OnceLock};

/// Positions that are computed together.
const PAGE_POSITIONS: usize = 1024;

/// Cosines and sines of the rotary embedding (arXiv 2104.09864), rotate-half form. A model may have millions of positions;
/// those that nothing asks for take no memory. Clones share what is computed.
#[derive(Clone, Debug)]
pub struct RopeTable {
    inverse_frequencies: Arc<[f32]>,
    attention_scaling: f32,
    n_positions: usize,
    /// Per position the cosines, then the sines, attention scaling included: `[PAGE_POSITIONS, 2, head_dim / 2]`.
    pages: Arc<[OnceLock<Box<[f32]>>]>,
}

impl RopeTable {
    /// The table of positions `0..n_positions` for the given inverse frequencies (radians per position).
    pub fn new(inverse_frequencies: &[f32], attention_scaling: f32, n_positions: usize) -> Self {
        Self {
            inverse_frequencies: inverse_frequencies.into(),
            attention_scaling,
            n_positions,
            pages: (0..n_positions.div_ceil(PAGE_POSITIONS)).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        2 * self.inverse_frequencies.len()
    }

    /// Number of positions covered.
    pub fn n_positions(&self) -> usize {
        self.n_positions
    }

    /// Whether this is the table that [`RopeTable::new`] makes of these values.
    pub fn is_of(&self, inverse_frequencies: &[f32], attention_scaling: f32, n_positions: usize) -> bool {
        *self.inverse_frequencies == *inverse_frequencies
            && self.attention_scaling == attention_scaling
            && self.n_positions == n_positions
    }

    /// Cosines and sines of a position, attention scaling included, `[head_dim / 2]` each.
    ///
    /// # Panics
    /// If the table does not cover the position.
    pub fn row(&self, position: usize) -> (&[f32], &[f32]) {
        assert!(position < self.n_positions, "rope: position {position} of a table of {}", self.n_positions);
        let half = self.inverse_frequencies.len();
        let page = position / PAGE_POSITIONS;
        let values = self.pages[page].get_or_init(|| self.page(page));
        values[position % PAGE_POSITIONS * 2 * half..][..2 * half].split_at(half)
    }

    fn page(&self, page: usize) -> Box<[f32]> {
        let half = self.inverse_frequencies.len();
        let positions = page * PAGE_POSITIONS..self.n_positions.min((page + 1) * PAGE_POSITIONS);
        let mut values = Vec::with_capacity(positions.len() * 2 * half);
        for position in positions {
            let start = values.len();
            values.resize(start + 2 * half, 0.0);
            let (all_cos, all_sin) = values[start..].split_at_mut(half);
            for ((frequency, cos_out), sin_out) in self.inverse_frequencies.iter().zip(all_cos).zip(all_sin) {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                *cos_out = cos * self.attention_scaling;
                *sin_out = sin * self.attention_scaling;
            }
        }
        values.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn computed(table: &RopeTable) -> usize {
        table.pages.iter().filter(|page| page.get().is_some()).count()
    }

    #[test]
    fn only_positions_in_use_are_computed_and_clones_share_them() {
        let table = RopeTable::new(&[1.0, 0.01], 1.0, 1 << 24);
        let twin = table.clone();
        assert_eq!(computed(&table), 0);
        let (cos, sin) = table.row(5000);
        assert_eq!((cos[1], sin[1]), (50.0f32.cos(), 50.0f32.sin()));
        assert_eq!((computed(&table), computed(&twin)), (1, 1));
        assert!(std::ptr::eq(table.row(5000).0, twin.row(5000).0));
    }

    #[test]
    fn the_last_page_ends_with_the_table() {
        let table = RopeTable::new(&[1.0], 1.0, PAGE_POSITIONS + 1);
        assert_eq!(table.row(PAGE_POSITIONS).0, [(PAGE_POSITIONS as f32).cos()]);
        assert!(std::panic::catch_unwind(|| table.row(PAGE_POSITIONS + 1)).is_err());
    }
}
