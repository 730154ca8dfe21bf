//! Backends that compute where the host's memory is: rows and matrices are used as they lie there.

use std::ops::Range;

use crate::backend::Memory;
use crate::cpu::linear::add;
use crate::matrix::Matrix;
use crate::rows::Rows;

/// A backend whose memory is the host's.
pub trait Host: Clone + Send + Sync + 'static {
    /// As [`Memory::factor`].
    fn own_factor(&self, factor: &Matrix) -> Matrix {
        factor.clone()
    }

    /// As [`Memory::zeros`].
    fn rows_of_zeros(&self, n_rows: usize, width: usize) -> Rows {
        Rows::zeros(n_rows, width)
    }
}

impl<H: Host> Memory for H {
    type Rows = Rows;
    type Matrix = Matrix;

    fn upload(&self, rows: Rows) -> Rows {
        rows
    }

    fn download(&self, rows: &Rows) -> Rows {
        rows.clone()
    }

    fn matrix(&self, matrix: &Matrix) -> Matrix {
        matrix.clone()
    }

    fn factor(&self, factor: &Matrix) -> Matrix {
        self.own_factor(factor)
    }

    fn matrix_shape(&self, matrix: &Matrix) -> (usize, usize) {
        (matrix.rows(), matrix.columns())
    }

    fn download_matrix(&self, matrix: &Matrix) -> Matrix {
        matrix.clone()
    }

    fn update_matrix(&self, matrix: &mut Matrix, f: &mut dyn FnMut(&mut [f32])) -> bool {
        matrix.f32_mut().map(f).is_some()
    }

    fn zeros(&self, n_rows: usize, width: usize) -> Rows {
        self.rows_of_zeros(n_rows, width)
    }

    fn n_rows(&self, rows: &Rows) -> usize {
        rows.n_rows()
    }

    fn grow(&self, rows: &mut Rows, n_rows: usize) {
        rows.grow(n_rows);
    }

    fn gather_rows(&self, x: &Rows, rows: &[u32]) -> Rows {
        let mut values = Vec::with_capacity(rows.len() * x.width());
        for &row in rows {
            values.extend_from_slice(x.row(row as usize));
        }
        Rows::new(x.width(), values)
    }

    fn scatter_rows(&self, out: &mut Rows, rows: &[u32], x: &Rows) {
        assert_eq!(rows.len(), x.n_rows(), "scatter_rows: rows");
        for (i, &row) in rows.iter().enumerate() {
            out.row_mut(row as usize).copy_from_slice(x.row(i));
        }
    }

    fn concat_rows(&self, width: usize, parts: &[(&Rows, Range<usize>)]) -> Rows {
        let mut values = Vec::with_capacity(parts.iter().map(|(_, range)| range.len() * width).sum());
        for (x, range) in parts {
            assert_eq!(x.width(), width, "concat_rows: widths");
            values.extend_from_slice(&x.values()[range.start * width..range.end * width]);
        }
        Rows::new(width, values)
    }

    fn copy_rows(&self, out: &mut Rows, to: usize, x: &Rows, from: Range<usize>) {
        let width = out.width();
        assert_eq!(width, x.width(), "copy_rows: widths");
        out.values_mut()[to * width..][..from.len() * width]
            .copy_from_slice(&x.values()[from.start * width..from.end * width]);
    }

    fn scatter_add_rows(&self, out: &mut Rows, rows: Option<&[u32]>, x: &Rows) {
        assert_eq!(rows.map_or(out.n_rows(), <[u32]>::len), x.n_rows(), "scatter_add_rows: rows");
        match rows {
            None => add(out.values_mut(), x.values()),
            Some(rows) => {
                for (i, &row) in rows.iter().enumerate() {
                    add(out.row_mut(row as usize), x.row(i));
                }
            }
        }
    }
}
