//! Pictures of tensors in one call.

use candle_core::Tensor;

use super::{BarChart, Heatmap, HistogramChart, LineChart, Scatter};
use crate::Result;

/// A matrix `[rows, cols]` as a heatmap.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candlescope::display::imshow;
/// let effect = Tensor::new(&[[0.1f32, -0.2], [0.0, 0.9]], &Device::Cpu)?;
/// imshow(&effect)?.title("patching effect").y_title("layer");
/// # Ok::<(), candlescope::Error>(())
/// ```
///
/// # Errors
/// When the tensor has more than two dimensions larger than 1.
pub fn imshow(values: &Tensor) -> Result<Heatmap> {
    Heatmap::from_tensor(values)
}

/// A vector as a curve, or each row of a matrix `[series, points]` as one.
///
/// # Errors
/// When the tensor has another number of dimensions.
pub fn line(values: &Tensor) -> Result<LineChart> {
    LineChart::from_tensor(values)
}

/// Points, one for each pair of values of two tensors of the same shape.
///
/// # Errors
/// When the shapes differ.
pub fn scatter(x: &Tensor, y: &Tensor) -> Result<Scatter> {
    Scatter::from_tensors(x, y)
}

/// How often values of each size are in a tensor of any shape.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candlescope::display::hist;
/// let weights = Tensor::randn(0f32, 1.0, (64, 64), &Device::Cpu)?;
/// hist(&weights)?.title("weights").x_title("value").log_y();
/// # Ok::<(), candlescope::Error>(())
/// ```
///
/// # Errors
/// When the tensor can't be read.
pub fn hist(values: &Tensor) -> Result<HistogramChart> {
    HistogramChart::from_tensor(values)
}

/// A bar for each label and value of a vector.
///
/// # Errors
/// When there are not as many values as labels.
pub fn bars<S: Into<String>>(labels: impl IntoIterator<Item = S>, values: &Tensor) -> Result<BarChart> {
    BarChart::new(labels, crate::display::draw::gather::sample(values)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn wrong_shapes_are_sentences() {
        let cube = Tensor::zeros((2, 2, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(imshow(&cube).unwrap_err().to_string().contains("[2, 2, 2]"));
        assert!(line(&cube).unwrap_err().to_string().contains("[2, 2, 2]"));
        assert!(scatter(&cube, &cube.flatten_all().unwrap()).is_err());
        assert!(bars(["a"], &cube).is_err());
        assert!(imshow(&cube.get(0).unwrap()).is_ok());
        assert!(hist(&cube).is_ok());
    }
}
