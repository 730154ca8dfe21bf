//! Packed rows: the activations of all tokens of a batch, one row a token, without padding.

/// A row-major `[n_rows, width]` block of f32 in host memory.
#[derive(Clone, Debug, Default, PartialEq)]
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

    /// Grows to at least `n_rows`, keeping what is there; new rows are zero.
    pub fn grow(&mut self, n_rows: usize) {
        if n_rows > self.n_rows {
            self.values.resize(n_rows * self.width, 0.0);
            self.n_rows = n_rows;
        }
    }
}
