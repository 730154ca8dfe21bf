//! Matrices of f32 with a row stride, as addresses: what several threads write.

#![allow(unsafe_code, reason = "addresses; every block states why it is sound")]

/// A place for results that several threads write, each its own elements.
#[derive(Clone, Copy)]
pub(crate) struct StridedMut {
    pub(crate) start: *mut f32,
    pub(crate) stride: usize,
}

// SAFETY: the type only carries an address; who writes through it guarantees that no two threads touch one element.
unsafe impl Send for StridedMut {}
// SAFETY: as above.
unsafe impl Sync for StridedMut {}

impl StridedMut {
    pub(crate) fn new(values: &mut [f32], stride: usize) -> Self {
        Self { start: values.as_mut_ptr(), stride }
    }

    /// The same matrix from row `row` and column `column` on.
    ///
    /// # Safety
    /// The element must exist.
    pub(crate) unsafe fn at(self, row: usize, column: usize) -> Self {
        // SAFETY: contract.
        Self { start: unsafe { self.start.add(row * self.stride + column) }, stride: self.stride }
    }

    /// `len` elements of row `row` from `column` on, for writing.
    ///
    /// # Safety
    /// The elements must exist and nobody else may use them meanwhile.
    pub(crate) unsafe fn row<'a>(self, row: usize, column: usize, len: usize) -> &'a mut [f32] {
        // SAFETY: contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride + column), len) }
    }
}
