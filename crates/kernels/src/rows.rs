//! Packed rows: the activations of all tokens of a batch, one row a token, without padding.

#![allow(
    unsafe_code,
    reason = "outputs are not set to zero before they are written; the one block states why it is sound"
)]

use crate::cpu::strided::StridedMut;

/// A row-major `[n_rows, width]` block of f32 in host memory.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_field_names, reason = "counts are named n_* everywhere")]
pub struct Rows {
    n_rows: usize,
    width: usize,
    values: Vec<f32>,
}

impl Rows {
    /// Rows of zeros.
    pub fn zeros(n_rows: usize, width: usize) -> Self {
        Self { n_rows, width, values: vec![0.0; n_rows * width] }
    }

    /// Rows of the given shapes `(n_rows, width)`, not set to zero before `write` fills them.
    ///
    /// # Safety
    /// `write` must set every element of every target.
    pub(crate) unsafe fn written(shapes: &[(usize, usize)], write: impl FnOnce(&[StridedMut])) -> Vec<Self> {
        let mut all: Vec<Vec<f32>> = shapes.iter().map(|(n_rows, width)| Vec::with_capacity(n_rows * width)).collect();
        let targets: Vec<StridedMut> = all
            .iter_mut()
            .zip(shapes)
            .map(|(values, (_, width))| StridedMut { start: values.as_mut_ptr(), stride: *width })
            .collect();
        write(&targets);
        let rows = |(mut values, (n_rows, width)): (Vec<f32>, &(usize, usize))| {
            // SAFETY: the capacity is that of the shape, and by contract every element is set.
            unsafe { values.set_len(n_rows * width) };
            Self { n_rows: *n_rows, width: *width, values }
        };
        all.into_iter().zip(shapes).map(rows).collect()
    }

    /// Rows over `values`.
    ///
    /// # Panics
    /// If `values` is not `width` times a whole number long.
    pub fn new(width: usize, values: Vec<f32>) -> Self {
        assert!(width > 0 && values.len().is_multiple_of(width), "{} values in rows of {width}", values.len());
        Self { n_rows: values.len() / width, width, values }
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }

    /// One row, for changing.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.width..][..self.width]
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, for changing.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The values themselves.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Keeps the first `n_rows`, of at least as many.
    pub(crate) fn truncate(&mut self, n_rows: usize) {
        assert!(n_rows <= self.n_rows, "{} rows cut to {n_rows}", self.n_rows);
        self.values.truncate(n_rows * self.width);
        self.n_rows = n_rows;
    }

    /// Grows to at least `n_rows`, keeping what is there; new rows are zero.
    pub fn grow(&mut self, n_rows: usize) {
        if n_rows > self.n_rows {
            self.values.resize(n_rows * self.width, 0.0);
            self.n_rows = n_rows;
        }
    }
}
