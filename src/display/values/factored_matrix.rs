//! How factored matrices and their eigenvalues look: a card and singular values, the complex plane, copying scores.

use candle_core::DType;

use crate::analysis::{Eigenvalues, FactoredMatrix, unravel};
use crate::display::draw::gather::sample;
use crate::display::views::complex_plane::hundredths;
use crate::display::{
    BarChart, Bundle, Card, ComplexPlane, Heatmap, LineChart, MAX_BARS, MAX_SERIES, Scale, Show, count, number,
};
use crate::{Error, Result};

/// Singular values are shown unasked up to this inner dimension, and this many numbers in both factors: that is quick.
const INNER: usize = 512;
const ELEMENTS: usize = 1 << 22;

/// One matrix's eigenvalues in the complex plane; the copying scores of many matrices.
impl Show for Eigenvalues {
    fn bundle(&self) -> Bundle {
        self.look().bundle()
    }
}

impl Eigenvalues {
    /// The eigenvalues of one matrix in the complex plane, to be changed before they are shown (`.title(..)`,
    /// `.unit_circle()`).
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let a = Tensor::new(&[[2f32, 0.], [0., -1.]], &Device::Cpu)?;
    /// let b = Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu)?;
    /// let plane = FactoredMatrix::new(&a, &b)?.eigenvalues()?.plane()?;
    /// assert!(plane.bundle().text.starts_with("2 eigenvalues, copying score 0.33"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When they are those of several matrices.
    pub fn plane(&self) -> Result<ComplexPlane> {
        let [n] = *self.re.dims() else {
            return Err(Error::msg(format!(
                "the complex plane shows the eigenvalues of one matrix, and these have shape {:?}; choose a matrix \
                 with .at(&[..]) before .eigenvalues()",
                self.re.dims()
            )));
        };
        let plane = ComplexPlane::new(sample(&self.re)?, sample(&self.im)?)?;
        let score = number(hundredths(plane.score()));
        Ok(plane.title(format!("{} eigenvalues, copying score {score}", count(n))))
    }

    fn look(&self) -> Result<Box<dyn Show>> {
        const TITLE: &str = "Copying scores";
        let look: Box<dyn Show> = match self.re.dims() {
            [n, _] if *n <= MAX_BARS => {
                let names = (0..*n).map(|i| i.to_string());
                Box::new(BarChart::new(names, sample(&self.copying_score()?)?)?.title(TITLE))
            }
            [_, _] => Box::new(LineChart::from_tensor(&self.copying_score()?)?.title(TITLE).x_title("matrix")),
            [_, _, _] => {
                let map = Heatmap::from_tensor(&self.copying_score()?)?.title(TITLE).y_title("layer").x_title("head");
                Box::new(map.scale(Scale::Diverging { limit: 1.0 }))
            }
            [leading @ .., last] if !leading.is_empty() => Box::new(format!(
                "Eigenvalues of {leading:?} matrices, {last} each; .copying_score()? has a number for each matrix, and \
                 .at(&[..]) before .eigenvalues() chooses some"
            )),
            _ => Box::new(self.plane()?),
        };
        Ok(look)
    }
}

/// What it is; and the singular values, where they take no time.
impl Show for FactoredMatrix {
    fn bundle(&self) -> Bundle {
        match self.is_small() {
            true => Bundle::stack(&[self.card().bundle(), self.spectrum().bundle()]),
            false => self.card().note(".spectrum()? shows the singular values").bundle(),
        }
    }
}

impl FactoredMatrix {
    /// The singular values as a curve, one for each matrix (of the first [`MAX_SERIES`]); on a logarithmic axis where
    /// they span more than a factor of 1000.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let a = Tensor::new(&[[3f32, 0.], [0., 2.]], &Device::Cpu)?;
    /// let curve = FactoredMatrix::new(&a, &a)?.spectrum()?.title("Singular values of A · A");
    /// assert!(curve.bundle().text.contains("4 to 9"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When a factor holds NaN or infinity.
    pub fn spectrum(&self) -> Result<LineChart> {
        let sizes = self.singular_values()?;
        let each = sizes.dims().last().copied().unwrap_or(0).max(1);
        let sizes: Vec<f32> = sizes.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        let name = |i: usize| unravel(i, self.leading()).iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let mut chart = LineChart::new().title("Singular values").x_title("number").y_title("singular value");
        for (i, sizes) in sizes.chunks(each).enumerate() {
            let points = sizes.iter().enumerate().map(|(place, size)| (place as f64 + 1.0, f64::from(*size)));
            chart = chart.points(name(i), points);
        }
        let positive = || sizes.iter().copied().filter(|size| *size > 0.0);
        let (low, high) = (positive().fold(f32::INFINITY, f32::min), positive().fold(0.0, f32::max));
        Ok(if high / 1000.0 > low { chart.log_y() } else { chart })
    }

    fn card(&self) -> Card {
        let leading = match self.leading() {
            [] => "none: one matrix".to_string(),
            leading => format!("{leading:?}: {} matrices", count(leading.iter().product())),
        };
        Card::new(format!("FactoredMatrix {:?}", self.shape()))
            .row("factors", format!("A {:?} · B {:?}", self.a().dims(), self.b().dims()))
            .row("inner dimension", count(self.mdim()))
            .row("leading axes", leading)
            .row("type", self.a().dtype().as_str())
    }

    /// Whether its singular values are there in no time.
    fn is_small(&self) -> bool {
        let (a, b) = (self.a().elem_count(), self.b().elem_count());
        let matrices: usize = self.leading().iter().product();
        a > 0 && b > 0 && a.saturating_add(b) <= ELEMENTS && matrices <= MAX_SERIES && self.mdim() <= INNER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    /// A diagonal matrix of two numbers.
    fn diagonal(first: f32, second: f32) -> FactoredMatrix {
        let a = Tensor::new(&[[first, 0.], [0., second]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[1f32, 0.], [0., 1.]], &Device::Cpu).unwrap();
        FactoredMatrix::new(&a, &b).unwrap()
    }

    #[test]
    fn eigenvalues_are_a_plane_or_scores() {
        let mut matrices = diagonal(2.0, -1.0);
        let text = matrices.eigenvalues().unwrap().bundle().text;
        assert!(text.starts_with("2 eigenvalues, copying score 0.33\n"), "{text}");
        assert!(text.contains("1 with a positive real part"), "{text}");
        for leading in 1..=3 {
            matrices = matrices.unsqueeze(0).unwrap();
            let eigenvalues = matrices.eigenvalues().unwrap();
            let bundle = eigenvalues.bundle();
            let expected = if leading < 3 { "Copying scores" } else { "[1, 1, 1] matrices, 2 each" };
            assert!(bundle.text.contains(expected), "{}", bundle.text);
            assert_eq!((bundle.png.is_some(), eigenvalues.svg().is_some()), (leading < 3, leading < 3));
            assert!(eigenvalues.plane().unwrap_err().to_string().contains("of one matrix"));
        }
        let scores = diagonal(2.0, -1.0).unsqueeze(0).unwrap().eigenvalues().unwrap();
        assert!(scores.bundle().text.contains("0.3333"), "{}", scores.bundle().text);
    }

    #[test]
    fn parts_that_do_not_fit_are_a_sentence() {
        let Eigenvalues { re, .. } = diagonal(2.0, -1.0).eigenvalues().unwrap();
        let odd = [re.get(0).unwrap(), re.narrow(0, 0, 1).unwrap()].map(|im| Eigenvalues { re: re.clone(), im });
        assert!(odd.iter().all(|odd| odd.bundle().text.starts_with("Error: ")));
        let scalar = re.get(0).unwrap();
        assert!(Eigenvalues { re: scalar.clone(), im: scalar }.bundle().text.starts_with("Error: "));
    }

    #[test]
    fn a_matrix_is_a_card_with_its_singular_values() {
        let text = diagonal(3.0, -0.5).bundle().text;
        for expected in ["FactoredMatrix [2, 2]", "none: one matrix", "f32", "Singular values", "0.5 to 3, 2 points"] {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
        let stacked = diagonal(3.0, -0.5).unsqueeze(0).unwrap().unsqueeze(0).unwrap();
        let svg = stacked.svg().unwrap();
        assert!(svg.contains("0, 0") && stacked.bundle().text.contains("[1, 1]: 1 matrices"), "{svg}");
        let ticks = |matrix: FactoredMatrix| matrix.svg().unwrap().contains("1e-5");
        assert!(ticks(diagonal(1.0, 1e-5)) && !ticks(diagonal(1.0, 0.01)), "a logarithmic axis where they span far");
    }

    #[test]
    fn what_takes_time_is_not_computed_unasked() {
        let matrix = |leading: usize, inner: usize| {
            let ones =
                |rows: usize, cols: usize| Tensor::ones((leading, rows, cols), DType::F32, &Device::Cpu).unwrap();
            FactoredMatrix::new(&ones(2, inner), &ones(inner, 2)).unwrap().bundle().text
        };
        for (leading, inner, is_shown) in
            [(24, 3, true), (25, 3, false), (1, 512, true), (1, 513, false), (0, 3, false)]
        {
            let text = matrix(leading, inner);
            assert_eq!(text.contains("Singular values"), is_shown, "{text}");
            assert_eq!(text.contains(".spectrum()?"), !is_shown, "{text}");
        }
        assert!(diagonal(f32::NAN, 1.0).bundle().text.contains("Error: "));
    }
}
