use candle_core::{Device, Tensor};

use super::*;

/// A `[5, 3]` and B `[3, 5]`, whose answers were computed with NumPy from the dense product.
fn example() -> Result<FactoredMatrix> {
    let a = Tensor::new(&[[-5f32, -2., 1.], [2., 5., -3.], [-2., 1., 4.], [5., -3., 0.], [1., 4., -4.]], &Device::Cpu)?;
    let b = Tensor::new(&[[-3f32, -1., 1., 3., -2.], [2., -2., 1., -3., 0.], [0., -3., 1., -2., 2.]], &Device::Cpu)?;
    FactoredMatrix::new(&a, &b)
}

const SINGULAR_VALUES: [f32; 3] = [44.198_313, 17.696_174, 15.790_965];

/// Reproducible numbers in [-1, 1).
fn random(shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.
        })
        .collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn numbers(t: &Tensor) -> Vec<f32> {
    t.flatten_all().and_then(|t| t.to_vec1()).unwrap_or_default()
}

#[track_caller]
fn assert_close(found: &Tensor, wanted: &[f32], tolerance: f32) {
    let found = numbers(found);
    assert_eq!(found.len(), wanted.len());
    for (x, y) in found.iter().zip(wanted) {
        assert!((x - y).abs() <= tolerance * y.abs().max(1.), "{found:?} is not {wanted:?}");
    }
}

#[track_caller]
fn assert_same(found: &Tensor, wanted: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), wanted.dims());
    assert_close(found, &numbers(wanted), tolerance);
}

#[track_caller]
fn sentence<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("an error was expected").to_string()
}

#[test]
fn answers_are_those_of_numpy() -> Result<()> {
    let m = example()?;
    assert_close(&m.singular_values()?, &SINGULAR_VALUES, 1e-6);
    assert_close(&m.svd()?.s, &SINGULAR_VALUES, 1e-6);
    assert_close(&m.norm()?, &[50.159_744], 1e-6);
    assert_close(&m.trace()?, &[25.], 1e-6);
    let eigenvalues = m.eigenvalues()?;
    assert_close(&eigenvalues.re, &[32.599_552, -9.774_412, 2.174_858], 1e-6);
    assert_close(&eigenvalues.im, &[0.; 3], 1e-6);
    assert_close(&m.copying_score()?, &[0.561_182], 1e-6);
    assert_close(&m.composition_scores(&m)?, &[0.617_928_86], 1e-6);
    assert_close(&m.composition_scores(&m.t()?)?, &[0.792_561_1], 1e-6);
    assert_close(&m.get_corner(2)?, &[11., 6., 4., -3.], 0.);
    Ok(())
}

#[test]
fn decompositions_put_the_matrix_together_again() -> Result<()> {
    // Wide, tall, square, an inner size larger than both outer ones, single rows; with broadcast leading axes.
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[2, 3, 40, 8], &[2, 3, 8, 24]),
        (&[3, 6, 9], &[2, 1, 9, 5]),
        (&[20, 20], &[4, 20, 20]),
        (&[4, 1, 3], &[3, 7]),
        (&[1, 1], &[1, 1]),
        (&[70, 64], &[64, 70]),
    ];
    for (seed, (a, b)) in shapes.into_iter().enumerate() {
        let m = FactoredMatrix::new(&random(a, 2 * seed as u64)?, &random(b, 2 * seed as u64 + 1)?)?;
        let dense = m.a().contiguous()?.matmul(&m.b().contiguous()?)?;
        assert_eq!(m.shape(), dense.dims());
        assert_same(&m.ab()?, &dense, 1e-5);

        let Svd { u, s, v } = m.svd()?;
        let again = u.broadcast_mul(&s.unsqueeze(s.rank() - 1)?)?.matmul(&v.t()?.contiguous()?)?;
        assert_same(&again, &dense, 1e-5);
        let gram = v.t()?.contiguous()?.matmul(&v)?;
        let identity = Tensor::eye(gram.dim(gram.rank() - 1)?, DType::F32, &Device::Cpu)?;
        assert_same(&gram, &identity.broadcast_as(gram.shape())?, 1e-5);
        assert_same(&m.singular_values()?, &s, 1e-5);
        assert_same(&m.norm()?, &dense.sqr()?.sum(dense.rank() - 1)?.sum(dense.rank() - 2)?.sqrt()?, 1e-5);

        let even = m.make_even()?;
        assert_same(&even.ab()?, &dense, 1e-5);
        assert_same(&even.a().sqr()?.sum(dense.rank() - 2)?, &s, 1e-5);
        assert_same(&m.collapse_r()?.matmul(&v.t()?.contiguous()?)?, &dense, 1e-5);
        assert_same(&u.matmul(&m.collapse_l()?.contiguous()?)?, &dense, 1e-5);
    }
    Ok(())
}

#[test]
fn eigenvalues_have_the_power_sums_of_the_matrix() -> Result<()> {
    // Σλ, Σλ² and Σλ³ are the traces of M, M² and M³; B·A and A·B share them, also where m is larger than l.
    for (seed, (n, inner)) in [(30usize, 8usize), (5, 9), (64, 64), (100, 33)].into_iter().enumerate() {
        let a = random(&[3, n, inner], 50 + seed as u64)?;
        let b = random(&[3, inner, n], 60 + seed as u64)?;
        let m = FactoredMatrix::new(&a, &b)?;
        let found = m.eigenvalues()?;
        assert_eq!(found.re.dims(), [3, inner]);
        let dense = m.ab()?.to_dtype(DType::F64)?;
        for item in 0..3 {
            let (re, im) = (numbers(&found.re.get(item)?), numbers(&found.im.get(item)?));
            let scale = dense.get(item)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
            let mut power = dense.get(item)?;
            for exponent in 1..=3 {
                let (mut sum_re, mut sum_im) = (0f64, 0f64);
                for (&x, &y) in re.iter().zip(&im) {
                    let (modulus, angle) = ((x as f64).hypot(y as f64), (y as f64).atan2(x as f64));
                    sum_re += modulus.powi(exponent) * (angle * exponent as f64).cos();
                    sum_im += modulus.powi(exponent) * (angle * exponent as f64).sin();
                }
                let trace: f64 = power.to_vec2::<f64>()?.iter().enumerate().map(|(i, row)| row[i]).sum();
                assert!((sum_re - trace).abs() < 1e-5 * scale.powi(exponent), "{exponent}: {sum_re} {trace}");
                assert!(sum_im.abs() < 1e-5 * scale.powi(exponent));
                power = power.matmul(&dense.get(item)?)?;
            }
            let moduli: Vec<f32> = re.iter().zip(&im).map(|(x, y)| x.hypot(*y)).collect();
            assert!(moduli.windows(2).all(|pair| pair[0] >= pair[1] - 1e-5));
        }
        assert_same(&found.sum_re()?, &m.trace()?, 1e-4);
    }
    Ok(())
}

#[test]
fn a_rotation_has_complex_eigenvalues() -> Result<()> {
    let (sin, cos) = 0.7f32.sin_cos();
    let rotation = Tensor::new(&[[cos, -sin], [sin, cos]], &Device::Cpu)?;
    let found = FactoredMatrix::new(&rotation, &Tensor::eye(2, DType::F32, &Device::Cpu)?)?.eigenvalues()?;
    assert_close(&found.re, &[cos, cos], 1e-6);
    assert_close(&found.im, &[sin, -sin], 1e-6);
    assert_close(&found.abs()?, &[1., 1.], 1e-6);
    assert_close(&found.copying_score()?, &[cos], 1e-6);
    Ok(())
}

#[test]
fn zero_and_rank_deficient_matrices_are_ordinary() -> Result<()> {
    let zero = FactoredMatrix::new(&random(&[2, 6, 3], 1)?, &Tensor::zeros((2, 3, 6), DType::F32, &Device::Cpu)?)?;
    assert_close(&zero.singular_values()?, &[0.; 6], 0.);
    assert_close(&zero.norm()?, &[0.; 2], 0.);
    assert_close(&zero.copying_score()?, &[0.; 2], 0.);
    assert_close(&zero.composition_scores(&zero)?, &[0.; 4], 0.);
    assert_close(&zero.make_even()?.ab()?, &[0.; 72], 0.);

    // Equal columns: rank one.
    let a = Tensor::new(&[[1f32, 1., 1.], [2., 2., 2.]], &Device::Cpu)?;
    let b = Tensor::new(&[[3f32, 0.], [1., 2.], [0., 2.]], &Device::Cpu)?;
    let m = FactoredMatrix::new(&a, &b)?;
    assert_close(&m.singular_values()?, &[160f32.sqrt(), 0.], 1e-6);
    assert_close(&m.eigenvalues()?.re, &[12., 0., 0.], 1e-6);

    // A nilpotent matrix has no eigenvalue but zero.
    let jordan = Tensor::new(&[[0f32, 1., 0.], [0., 0., 1.], [0., 0., 0.]], &Device::Cpu)?;
    let m = FactoredMatrix::new(&jordan, &Tensor::eye(3, DType::F32, &Device::Cpu)?)?;
    assert_close(&m.eigenvalues()?.abs()?, &[0.; 3], 1e-6);

    // No inner size, no matrices.
    let empty = Tensor::zeros((2, 0), DType::F32, &Device::Cpu)?;
    let m = FactoredMatrix::new(&empty, &empty.t()?)?;
    assert_eq!(m.singular_values()?.dims(), [0]);
    assert_eq!(m.eigenvalues()?.re.dims(), [0]);
    Ok(())
}

#[test]
fn what_is_not_finite_is_an_error() -> Result<()> {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = vec![1f32; 24];
        values[13] = bad;
        let a = Tensor::from_vec(values, (2, 4, 3), &Device::Cpu)?;
        let m = FactoredMatrix::new(&a, &random(&[3, 4], 3)?)?;
        for text in [
            sentence(m.svd()),
            sentence(m.singular_values()),
            sentence(m.eigenvalues()),
            sentence(m.norm()),
            sentence(m.trace()),
            sentence(m.copying_score()),
            sentence(m.make_even()),
            sentence(m.composition_scores(&m)),
        ] {
            assert!(text.contains("factor A [4, 3] at [1] holds NaN or infinity"), "{text}");
        }
    }
    let huge = Tensor::full(1e300f64, (2, 2), &Device::Cpu)?;
    assert!(sentence(FactoredMatrix::new(&huge, &huge)?.eigenvalues()).contains("overflows"));
    Ok(())
}

#[test]
fn products_are_those_of_the_dense_matrix() -> Result<()> {
    let m = FactoredMatrix::new(&random(&[2, 3, 10, 4], 1)?, &random(&[3, 4, 10], 2)?)?;
    let dense = m.ab()?;
    for x in [random(&[10, 12], 3)?, random(&[10, 2], 4)?, random(&[2, 1, 10, 6], 5)?] {
        let product = m.right_mul(&x)?;
        assert!(product.mdim() <= 4);
        assert_same(&product.ab()?, &dense.broadcast_matmul(&x)?, 1e-5);
        let y = x.t()?.contiguous()?;
        let product = m.left_mul(&y)?;
        assert!(product.mdim() <= 4);
        assert_same(&product.ab()?, &y.broadcast_matmul(&dense)?, 1e-5);
    }
    // Left and right of a matrix that is thinner outside than inside: the outer size becomes the inner one.
    let wide = FactoredMatrix::new(&random(&[3, 8], 6)?, &random(&[8, 3], 7)?)?;
    assert_eq!(wide.right_mul(&random(&[3, 9], 8)?)?.mdim(), 3);
    assert_eq!(wide.left_mul(&random(&[9, 3], 8)?)?.mdim(), 3);

    for inner in [2, 6] {
        let other = FactoredMatrix::new(&random(&[10, inner], 9)?, &random(&[inner, 5], 10)?)?;
        let product = m.matmul(&other)?;
        assert_eq!(product.mdim(), inner.min(4));
        assert_same(&product.ab()?, &dense.broadcast_matmul(&other.ab()?)?, 1e-5);
    }

    let vector = random(&[10], 11)?;
    assert_same(&m.mul_vec(&vector)?, &dense.broadcast_matmul(&vector.unsqueeze(1)?)?.squeeze(3)?, 1e-5);
    assert_same(&m.left_mul_vec(&vector)?, &vector.unsqueeze(0)?.broadcast_matmul(&dense)?.squeeze(2)?, 1e-5);

    assert_same(&m.scale(-2.5)?.ab()?, &(&dense * -2.5)?, 1e-5);
    assert_same(&m.t()?.ab()?, &dense.t()?, 1e-5);
    assert_same(&m.ba()?, &m.b().contiguous()?.matmul(&m.a().contiguous()?)?, 1e-5);
    assert_same(&m.at(&[1, 2])?.ab()?, &dense.get(1)?.get(2)?, 1e-5);
    assert_same(&m.get(1)?.ab()?, &dense.get(1)?, 1e-5);
    assert_eq!(m.unsqueeze(1)?.leading(), [2, 1, 3]);
    Ok(())
}

#[test]
fn a_repeated_factor_keeps_the_leading_axes() -> Result<()> {
    let (a, b) = (random(&[6, 2], 1)?.broadcast_as((4, 6, 2))?, random(&[2, 6], 2)?);
    let m = FactoredMatrix::new(&a, &b)?;
    assert_eq!(m.ab()?.dims(), [4, 6, 6]);
    assert_eq!(m.norm()?.dims(), [4]);
    assert_eq!(m.right_mul(&random(&[6, 5], 3)?)?.shape(), [4, 6, 5]);
    let single = FactoredMatrix::new(&random(&[1, 6, 2], 1)?, &b)?;
    assert_eq!(single.ab()?.dims(), [1, 6, 6]);
    Ok(())
}

#[test]
fn composition_scores_are_those_of_dense_products() -> Result<()> {
    let left = FactoredMatrix::new(&random(&[2, 3, 12, 4], 1)?, &random(&[2, 3, 4, 12], 2)?)?;
    let right = FactoredMatrix::new(&random(&[5, 12, 3], 3)?, &random(&[5, 3, 12], 4)?)?;
    let norm = |t: &Tensor| -> Result<f32> { Ok(t.sqr()?.sum_all()?.sqrt()?.to_scalar()?) };
    let scores = left.composition_scores(&right)?;
    assert_eq!(scores.dims(), [2, 3, 5]);
    let mut wanted = Vec::new();
    for (layer, head, later) in (0..2).flat_map(|l| (0..3).flat_map(move |h| (0..5).map(move |r| (l, h, r)))) {
        let (x, y) = (left.at(&[layer, head])?.ab()?, right.get(later)?.ab()?);
        wanted.push(norm(&x.matmul(&y)?)? / (norm(&x)? * norm(&y)?));
    }
    assert_close(&scores, &wanted, 1e-5);
    Ok(())
}

#[test]
fn gradients_flow_through_products() -> Result<()> {
    let a = candle_core::Var::from_tensor(&random(&[3, 2], 1)?)?;
    let b = random(&[4, 2, 5], 2)?;
    let grads = FactoredMatrix::new(a.as_tensor(), &b)?.scale(2.)?.ab()?.sum_all()?.backward()?;
    // d/dA of Σ 2·A·B is the sum over items and columns of 2·B, the same in each row.
    let wanted = (b.sum(2)?.sum(0)? * 2.)?.broadcast_as((3, 2))?.contiguous()?;
    let found = grads.get(a.as_tensor()).ok_or(Error::msg("no gradient"))?;
    assert_same(found, &wanted, 1e-5);
    Ok(())
}

#[test]
fn mistakes_are_sentences() -> Result<()> {
    let m = FactoredMatrix::new(&random(&[2, 4, 3], 1)?, &random(&[3, 5], 2)?)?;
    let text = sentence(FactoredMatrix::new(&random(&[4, 3], 1)?, &random(&[2, 5], 2)?));
    assert!(text.contains("inner sizes differ: A is [4, 3], B is [2, 5]"), "{text}");
    let text = sentence(FactoredMatrix::new(&random(&[2, 4, 3], 1)?, &random(&[5, 3, 4], 2)?));
    assert!(text.contains("leading axes do not broadcast"), "{text}");
    assert!(sentence(FactoredMatrix::new(&random(&[4], 1)?, &random(&[4, 5], 2)?)).contains("less than two axes"));
    assert!(sentence(m.eigenvalues()).contains("square"));
    assert!(sentence(m.trace()).contains("[2, 4, 5]"));
    assert!(sentence(m.right_mul(&random(&[4, 4], 1)?)).contains("[2, 4, 5] times [4, 4]"));
    assert!(sentence(m.right_mul(&random(&[5], 1)?)).contains("mul_vec"));
    assert!(sentence(m.mul_vec(&random(&[4], 1)?)).contains("5 numbers"));
    assert!(sentence(m.at(&[2])).contains("[2]"));
    assert!(sentence(m.at(&[0, 0])).contains("leading axes"));
    assert!(sentence(m.unsqueeze(2)).contains("axis 2"));
    Ok(())
}

#[test]
fn parts_are_those_of_the_dense_matrix() -> Result<()> {
    let m = FactoredMatrix::new(&random(&[2, 6, 3], 1)?, &random(&[3, 5], 2)?)?;
    let dense = m.ab()?;
    assert_same(&m.rows(2..4)?.ab()?, &dense.narrow(1, 2, 2)?, 1e-6);
    assert_same(&m.rows(3..=3)?.cols(..2)?.ab()?, &dense.narrow(1, 3, 1)?.narrow(2, 0, 2)?, 1e-6);
    assert_same(&m.cols(4..)?.ab()?, &dense.narrow(2, 4, 1)?, 1e-6);
    let picked = Tensor::new(&[5u32, 0, 5], &Device::Cpu)?;
    assert_same(&m.select_rows(&[5, 0, 5])?.ab()?, &dense.index_select(&picked, 1)?, 1e-6);
    let picked = Tensor::new(&[4u32, 1], &Device::Cpu)?;
    assert_same(&m.select_cols(&[4, 1])?.ab()?, &dense.index_select(&picked, 2)?, 1e-6);

    let other = FactoredMatrix::new(&random(&[6, 2], 3)?, &random(&[2, 5], 4)?)?;
    let sum = m.add(&other)?;
    assert_eq!((sum.shape(), sum.mdim()), (vec![2, 6, 5], 5));
    assert_same(&sum.ab()?, &dense.broadcast_add(&other.ab()?)?, 1e-6);

    for text in [
        sentence(m.rows(3..3)),
        sentence(m.rows(..7)),
        sentence(m.rows(usize::MAX..)),
        sentence(m.cols(5..=usize::MAX)),
    ] {
        assert!(text.contains("of a matrix that has"), "{text}");
    }
    assert!(sentence(m.select_rows(&[6])).contains("no row 6"));
    assert!(sentence(m.select_cols(&[])).contains("no column was named"));
    assert!(sentence(m.add(&m.t()?)).contains("have no sum"));
    Ok(())
}

#[test]
fn a_pseudo_inverse_has_the_four_properties() -> Result<()> {
    // Penrose 1955: M P M = M, P M P = P, and M P and P M symmetric. The last has rank 2 through 4 dimensions.
    let thin = FactoredMatrix::new(&random(&[9, 2], 5)?, &random(&[2, 7], 6)?)?;
    let deficient = FactoredMatrix::new(&random(&[9, 4], 7)?, &random(&[4, 2], 8)?.matmul(&random(&[2, 7], 9)?)?)?;
    for m in [FactoredMatrix::new(&random(&[3, 8, 4], 1)?, &random(&[3, 4, 6], 2)?)?, thin, deficient] {
        let inverse = m.pinv()?;
        let (m, p) = (m.ab()?, inverse.ab()?);
        let (mp, pm) = (m.matmul(&p)?, p.matmul(&m)?);
        assert_same(&mp.matmul(&m)?, &m, 1e-4);
        assert_same(&pm.matmul(&p)?, &p, 1e-4);
        for symmetric in [mp, pm] {
            assert_same(&symmetric.t()?.contiguous()?, &symmetric, 1e-4);
        }
    }
    let zero = FactoredMatrix::new(&Tensor::zeros((4, 2), DType::F32, &Device::Cpu)?, &random(&[2, 3], 1)?)?;
    assert_close(&zero.pinv()?.ab()?, &[0.; 12], 0.);
    // Everything up to the largest singular value counts as zero.
    assert_close(&example()?.pinv_with(1.)?.ab()?, &[0.; 25], 0.);
    Ok(())
}

#[test]
fn the_nearest_matrix_of_a_rank_is_off_by_the_rest() -> Result<()> {
    let m = example()?;
    let [s1, s2, s3] = SINGULAR_VALUES;
    let off = |rank: usize| -> Result<Tensor> { Ok((m.ab()? - m.truncate(rank)?.ab()?)?.sqr()?.sum_all()?.sqrt()?) };
    assert_close(&off(1)?, &[s2.hypot(s3)], 1e-5);
    assert_close(&off(2)?, &[s3], 1e-5);
    assert_same(&m.truncate(3)?.ab()?, &m.ab()?, 1e-5);
    assert_eq!(m.truncate(2)?.mdim(), 2);
    assert_close(&m.spectral_norm()?, &[s1], 1e-6);
    assert_close(&m.nuclear_norm()?, &[s1 + s2 + s3], 1e-6);
    assert!(sentence(m.truncate(0)).contains("1 to 3"));
    assert!(sentence(m.truncate(4)).contains("4 was asked for"));
    Ok(())
}

#[test]
fn a_decomposition_is_made_once() -> Result<()> {
    let m = example()?;
    let first = m.svd()?;
    let copy = m.clone();
    // The same tensor, not an equal one.
    assert_eq!(copy.svd()?.u.id(), first.u.id());
    assert_eq!(copy.singular_values()?.id(), first.s.id());
    assert_close(&m.scale(2.)?.svd()?.s, &SINGULAR_VALUES.map(|s| 2. * s), 1e-6);
    Ok(())
}
