//! Activations of many tokens, mixed, so that a batch is not of one text alone.

use candle_core::{DType, Device, Tensor};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::Result;

/// Vectors of one width, up to a number of them.
pub(super) struct Buffer {
    values: Vec<f32>,
    width: usize,
    most: usize,
}

impl Buffer {
    pub fn new(width: usize, most: usize) -> Self {
        Self { values: Vec::new(), width, most }
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    pub fn is_full(&self) -> bool {
        self.len() >= self.most
    }

    /// Takes in rows `[n, width]`.
    pub fn add(&mut self, rows: &Tensor) -> Result<()> {
        let rows = rows.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        self.values.extend(rows.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    /// The mean length of the vectors.
    pub fn mean_length(&self) -> f64 {
        let length = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        self.values.chunks(self.width).map(length).sum::<f64>() / self.len().max(1) as f64
    }

    /// The point from which the vectors' distances have the smallest sum, by some steps of Weiszfeld's (1937) from the mean;
    /// of some of the vectors where there are many.
    pub fn geometric_median(&self) -> Vec<f64> {
        const STEPS: usize = 20;
        const ENOUGH: usize = 8192;
        let step = self.len().div_ceil(ENOUGH).max(1);
        let rows = || self.values.chunks(self.width).step_by(step);
        let mut median = vec![0.0; self.width];
        for round in 0..=STEPS {
            let (mut sum, mut weights) = (vec![0.0; self.width], 0.0);
            for row in rows() {
                let square = |(x, m): (&f32, &f64)| (f64::from(*x) - m).powi(2);
                let distance = row.iter().zip(&median).map(square).sum::<f64>().sqrt();
                // The first round, from nowhere, is the mean.
                let weight = if round == 0 { 1.0 } else { 1.0 / distance.max(1e-6) };
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * f64::from(*x));
                weights += weight;
            }
            median = sum.into_iter().map(|sum| sum / f64::max(weights, f64::MIN_POSITIVE)).collect();
        }
        median
    }

    /// Batches of half of the vectors, drawn at random, which are gone afterwards; the others go on to be mixed.
    pub fn take_half(&mut self, batch: usize, rng: &mut StdRng) -> Vec<Vec<f32>> {
        let order = self.shuffled(rng);
        let taken = (self.len() / 2).max(batch).min(self.len());
        let batches = order[..taken].chunks_exact(batch.min(taken).max(1)).map(|places| self.rows(places)).collect();
        self.values = self.rows(&order[taken..]);
        batches
    }

    /// Batches of all the vectors, in random order; what is left over is less than a batch.
    pub fn all(&self, batch: usize, rng: &mut StdRng) -> Vec<Vec<usize>> {
        self.shuffled(rng).chunks_exact(batch.min(self.len()).max(1)).map(<[usize]>::to_vec).collect()
    }

    /// Some of the vectors, one behind the other.
    pub fn rows(&self, places: &[usize]) -> Vec<f32> {
        places.iter().flat_map(|&place| &self.values[place * self.width..(place + 1) * self.width]).copied().collect()
    }

    fn shuffled(&self, rng: &mut StdRng) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(rng);
        order
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn buffer(values: &[f32], width: usize, most: usize) -> Buffer {
        let mut buffer = Buffer::new(width, most);
        let rows = Tensor::new(values, &Device::Cpu).unwrap().reshape(((), width)).unwrap();
        buffer.add(&rows).unwrap();
        buffer
    }

    #[test]
    fn every_vector_is_given_once() {
        let values: Vec<f32> = (0..40).map(|i| (i / 2) as f32).collect();
        let mut buffer = buffer(&values, 2, 20);
        assert!(buffer.is_full());
        let mut rng = StdRng::seed_from_u64(1);
        let all: Vec<usize> = buffer.all(6, &mut rng).concat();
        assert_eq!(all.len(), 18);
        let mut seen: Vec<f32> = buffer.take_half(5, &mut rng).concat();
        assert_eq!((seen.len(), buffer.len()), (20, 10));
        seen.extend(buffer.rows(&(0..10).collect::<Vec<_>>()));
        seen.sort_by(f32::total_cmp);
        assert_eq!(seen, values);
    }

    #[test]
    fn the_median_is_not_drawn_by_an_outlier() {
        let median = buffer(&[0., 0., 1., 0., 0., 1., 1., 1., 1000., 1000.], 2, 5).geometric_median();
        assert!(median.iter().all(|x| (0.0..1.01).contains(x)), "{median:?}");
        assert_eq!(buffer(&[3., 4., 0., 0.], 2, 2).mean_length(), 2.5);
    }
}
