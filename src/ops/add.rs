use candle_core::{CpuStorage, D, InplaceOp2, Layout, Result, Tensor};

use super::rows::{change_rows, slice, slice_mut};

/// x `[.., width]` plus a row `[width]`. Without gradients nothing is allocated: x, which must not be shared, is changed.
pub(crate) fn add_row(x: Tensor, row: &Tensor) -> Result<Tensor> {
    if !super::are_for(&x) || x.track_op() || row.track_op() || !x.is_contiguous() || row.dtype() != x.dtype() {
        return x.broadcast_add(row);
    }
    x.inplace_op2(&row.contiguous()?, &AddRow)?;
    Ok(x)
}

struct AddRow;

impl InplaceOp2 for AddRow {
    fn name(&self) -> &'static str {
        "add-row"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, at: &Layout, row: &CpuStorage, row_at: &Layout) -> Result<()> {
        let row = slice(row, row_at)?;
        if at.shape().dim(D::Minus1)? != row.len() {
            candle_core::bail!("a row of {} numbers can't be added to rows of {:?}", row.len(), at.shape());
        }
        change_rows(slice_mut(x, at)?, row.len(), |_, x| {
            for x in x.chunks_exact_mut(row.len()) {
                x.iter_mut().zip(row).for_each(|(x, r)| *x += r);
            }
        });
        Ok(())
    }
}
