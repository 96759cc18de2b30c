//! Matrices in slices of numbers, and products of them that several threads write side by side.

use std::marker::PhantomData;
use std::ops::Range;

use candle_core::Result;

/// A matrix that is read.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    numbers: &'a [T],
    rows: usize,
    columns: usize,
    /// How far apart two rows and two columns are.
    strides: [usize; 2],
}

impl<'a, T> Matrix<'a, T> {
    /// The matrix that begins with the first of these numbers.
    pub(super) fn new(numbers: &'a [T], [rows, columns]: [usize; 2], strides: [usize; 2]) -> Result<Self> {
        let empty = rows == 0 || columns == 0;
        let last = rows.saturating_sub(1) * strides[0] + columns.saturating_sub(1) * strides[1];
        if !empty && last >= numbers.len() {
            candle_core::bail!("{rows} x {columns} numbers at {strides:?} don't fit into {}", numbers.len());
        }
        Ok(Self { numbers, rows, columns, strides })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Whether the numbers of a row stand side by side.
    pub(super) fn by_row(&self) -> bool {
        self.strides[1] == 1
    }

    pub(super) fn transposed(&self) -> Self {
        let [row, column] = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: [column, row], ..*self }
    }

    pub(super) fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns && !rows.is_empty() && !columns.is_empty());
        let first = rows.start * self.strides[0] + columns.start * self.strides[1];
        Self { numbers: &self.numbers[first..], rows: rows.len(), columns: columns.len(), strides: self.strides }
    }

    /// A row whose numbers stand side by side.
    pub(super) fn row(&self, row: usize) -> &'a [T] {
        debug_assert!(self.by_row());
        &self.numbers[row * self.strides[0]..][..self.columns]
    }
}

/// Numbers that several threads write, each a part of its own.
pub(super) struct Target<'a> {
    start: *mut f32,
    len: usize,
    written: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads reach the numbers through parts alone, and whoever takes a part promises that no other overlaps it.
unsafe impl Sync for Target<'_> {}

/// A matrix in a target, with rows whose numbers stand side by side.
pub(super) struct Part<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    written: PhantomData<&'a mut [f32]>,
}

/// `len` numbers, all of which `write` writes.
///
/// # Safety
/// `write` must set every number, by [`Part::set`], before it reads any.
pub(super) unsafe fn written(len: usize, write: impl FnOnce(&Target) -> Result<()>) -> Result<Vec<f32>> {
    let mut numbers: Vec<f32> = Vec::with_capacity(len);
    write(&Target { start: numbers.as_mut_ptr(), len, written: PhantomData })?;
    // SAFETY: there is room for so many, and the caller has written all of them.
    unsafe { numbers.set_len(len) };
    Ok(numbers)
}

impl Target<'_> {
    /// The part of `rows` x `columns` numbers that begins at `first`, its rows `stride` apart.
    ///
    /// # Safety
    /// No two parts that are in use at once may overlap.
    pub(super) unsafe fn part(&self, first: usize, [rows, columns]: [usize; 2], stride: usize) -> Part<'_> {
        assert!(rows > 0 && columns > 0 && first + (rows - 1) * stride + columns <= self.len);
        // SAFETY: checked just above.
        let start = unsafe { self.start.add(first) };
        Part { start, rows, columns, stride, written: PhantomData }
    }
}

impl Part<'_> {
    /// Makes the part a b.
    pub(super) fn set(&mut self, a: Matrix<f32>, b: Matrix<f32>) {
        self.product(a, b, false);
    }

    /// Adds a b to the part, which has been set.
    pub(super) fn add(&mut self, a: Matrix<f32>, b: Matrix<f32>) {
        self.product(a, b, true);
    }

    /// The first numbers of a row's columns, or all of them, once they are set.
    pub(super) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: the row lies in the part, which nobody else holds.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns) }
    }

    /// Makes every number behind the first `columns` of each row this one.
    pub(super) fn fill_behind(&mut self, columns: usize, value: f32) {
        for row in 0..self.rows {
            for column in columns..self.columns {
                // SAFETY: the number lies in the part, which nobody else holds.
                unsafe { self.start.add(row * self.stride + column).write(value) };
            }
        }
    }

    /// The same part with its first columns only.
    pub(super) fn first_columns(&mut self, columns: usize) -> Part<'_> {
        assert!(columns <= self.columns);
        Part { columns, written: PhantomData, ..*self }
    }

    fn product(&mut self, a: Matrix<f32>, b: Matrix<f32>, adds: bool) {
        assert!(a.rows == self.rows && b.columns == self.columns && a.columns == b.rows);
        let signed = |stride: usize| stride as isize;
        // SAFETY: all three matrices were checked to lie in their slices, the part is held by this thread alone, and it is
        // only read where it has been set.
        unsafe {
            gemm::gemm(
                self.rows,
                self.columns,
                a.columns,
                self.start,
                1,
                signed(self.stride),
                adds,
                a.numbers.as_ptr(),
                signed(a.strides[1]),
                signed(a.strides[0]),
                b.numbers.as_ptr(),
                signed(b.strides[1]),
                signed(b.strides[0]),
                if adds { 1.0 } else { 0.0 },
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}
