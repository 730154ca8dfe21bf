//! What can be wrong with the shapes and numbers given to a kernel.

/// An error of the kernels crate. Kernels check shapes where data enters (building a [`crate::matrix::Matrix`]); inside, shapes
/// are the caller's contract and are asserted.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum KernelError {
    /// The bytes given for a matrix are not as many as its shape and number format need.
    #[error("a {rows} x {columns} {dtype} matrix takes {expected} bytes, {actual} were given")]
    ByteLength {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        columns: usize,
        /// Name of the number format.
        dtype: &'static str,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// A row does not divide into whole quantisation blocks.
    #[error("{dtype} stores blocks of {block} values; a row of {columns} does not divide into them")]
    BlockLength {
        /// Number of columns.
        columns: usize,
        /// Name of the number format.
        dtype: &'static str,
        /// Values per block.
        block: usize,
    },
    /// The size of a matrix overflows the address space.
    #[error("a {rows} x {columns} matrix is too large")]
    TooLarge {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        columns: usize,
    },
    /// The environment names vector instructions that cannot be used.
    #[error("{variable}={wanted}: this machine has {found}; give avx512, avx2 or portable, none wider than that")]
    Instructions {
        /// The environment variable.
        variable: &'static str,
        /// What it says.
        wanted: String,
        /// The widest level of this machine.
        found: &'static str,
    },
}
