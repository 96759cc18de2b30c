//! Probes find what was planted, nothing where there is nothing, and the optimum that other ways of computing give.

use candlescope::analysis::ProbeOptions;
use candlescope::analysis::probe::{ProbePosition, ProbeTarget, features, probe_layers};
use candlescope::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Roughly normal numbers: sums of twelve uniform ones.
fn noise(n: usize, d: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut one = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    (0..n).map(|_| (0..d).map(|_| one()).collect()).collect()
}

fn tensor(rows: &[Vec<f64>]) -> Tensor {
    Tensor::from_vec(rows.concat(), (rows.len(), rows[0].len()), &Device::Cpu).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn vector(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn error<T: std::fmt::Debug>(result: candlescope::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_planted_direction_is_found() {
    let (n, d) = (600, 12);
    let mut rows = noise(n, d, 1);
    // Features of very different size, and off zero.
    for row in &mut rows {
        row.iter_mut().enumerate().for_each(|(i, x)| *x = *x * (1.0 + i as f64) + 10.0 * i as f64);
    }
    let planted: Vec<f64> = (0..d).map(|i| if i % 3 == 0 { 1.0 / (1.0 + i as f64) } else { 0.0 }).collect();
    let length = dot(&planted, &planted).sqrt();
    let offset: f64 = (0..d).map(|i| planted[i] * 10.0 * i as f64).sum();
    let signal: Vec<f64> = rows.iter().map(|row| dot(row, &planted) - offset).collect();

    let labels: Vec<bool> = signal.iter().map(|s| *s > 0.0).collect();
    let probe = Probe::fit(&tensor(&rows), &labels, &ProbeOptions::new().l2(1e-4)).unwrap();
    assert!(probe.score() > 0.96 && probe.selectivity().unwrap() > 0.35, "{}", probe.bundle().text);
    assert_eq!(probe.classes(), ["false", "true"]);
    // A quarter of each class, rounded.
    assert!(probe.rows().0.abs_diff(450) <= 1 && probe.rows().0 + probe.rows().1 == n);
    let direction = vector(&probe.direction().unwrap());
    assert!(dot(&direction, &planted) / length > 0.99, "{direction:?}");
    let back = vector(&probe.direction_to("false").unwrap());
    assert!((dot(&direction, &back) + 1.0).abs() < 1e-6);

    let probe = Probe::fit(&tensor(&rows), &signal, &ProbeOptions::new().l2(1e-8)).unwrap();
    assert!(probe.score() > 0.9999 && probe.control().unwrap() < 0.2 && probe.baseline() <= 0.0);
    assert!(dot(&vector(&probe.direction().unwrap()), &planted) / length > 0.9999);
    // In the space of the activation, weights and bias are those that were planted.
    let (w, b) = probe.weights().unwrap();
    vector(&w).iter().zip(&planted).for_each(|(found, planted)| assert!((found - planted).abs() < 1e-4));
    assert!((vector(&b)[0] + offset).abs() < 1e-3);
    let outputs = vector(&probe.outputs(&tensor(&rows)).unwrap());
    outputs.iter().zip(&signal).for_each(|(found, signal)| assert!((found - signal).abs() < 1e-3));
}

#[test]
fn noise_gives_chance() {
    let x = tensor(&noise(800, 10, 2));
    let mut rng = StdRng::seed_from_u64(3);
    let labels: Vec<usize> = (0..800).map(|_| rng.random_range(0..4)).collect();
    let probe = Probe::fit(&x, &labels, &ProbeOptions::new()).unwrap();
    let (score, control) = (probe.score(), probe.control().unwrap());
    // 200 held-out rows: a standard error of 0.03.
    assert!((score - 0.25).abs() < 0.12 && (control - 0.25).abs() < 0.08, "{score} {control}");
    assert!(probe.standard_error().unwrap() > 0.02);
    let confusion = probe.confusion().unwrap();
    let held_out = probe.rows().1;
    assert_eq!(confusion.values().iter().sum::<f32>(), held_out as f32);
    let right: f32 = (0..4).map(|i| confusion.values()[i * 5]).sum();
    assert!((f64::from(right) / held_out as f64 - score).abs() < 1e-9);
}

/// A x = b by Gaussian elimination.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for col in 0..n {
        let pivot = (col..n).max_by(|&i, &j| a[i][col].abs().total_cmp(&a[j][col].abs())).unwrap();
        a.swap(col, pivot);
        b.swap(col, pivot);
        for row in col + 1..n {
            let factor = a[row][col] / a[col][col];
            let (above, below) = a.split_at_mut(row);
            below[0].iter_mut().zip(&above[col]).for_each(|(x, y)| *x -= factor * y);
            b[row] -= factor * b[col];
        }
    }
    let mut x = vec![0.0; n];
    for row in (0..n).rev() {
        x[row] = (b[row] - dot(&a[row][row + 1..], &x[row + 1..])) / a[row][row];
    }
    x
}

/// Which rows a split of these labels trains on, seen from outside: of one-hot features, one for each row, only those of rows
/// that were seen get a weight.
fn training_rows(labels: impl Into<ProbeTarget>, options: &ProbeOptions) -> Vec<usize> {
    let labels = labels.into();
    let n = labels.len();
    let one_hot: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let probe = Probe::fit(&tensor(&one_hot), labels, &options.clone().standardize(false).controls(0)).unwrap();
    let w: Vec<Vec<f64>> = probe.weights().unwrap().0.to_dtype(DType::F64).unwrap().to_vec2().unwrap();
    (0..n).filter(|&i| w.iter().any(|output| output[i] != 0.0)).collect()
}

#[test]
fn ridge_is_the_closed_form_with_few_and_with_many_features() {
    for (n, d) in [(40, 5), (16, 30)] {
        let rows = noise(n, d, 4);
        let labels: Vec<f64> = noise(n, 1, 5).concat();
        let options = ProbeOptions::new().l2(0.3).standardize(false).controls(0);
        let probe = Probe::fit(&tensor(&rows), &labels, &options).unwrap();
        let train = training_rows(&labels, &options);
        assert_eq!((train.len(), n - train.len()), probe.rows());
        // The normal equations in weights and bias, the bias without a penalty.
        let with_one = |row: usize| [&rows[row][..], &[1.0]].concat();
        let mut a = vec![vec![0.0; d + 1]; d + 1];
        let mut b = vec![0.0; d + 1];
        for &row in &train {
            let x = with_one(row);
            for i in 0..=d {
                b[i] += x[i] * labels[row];
                for j in 0..=d {
                    a[i][j] += x[i] * x[j];
                }
            }
        }
        (0..d).for_each(|i| a[i][i] += 0.3 * train.len() as f64);
        let expected = solve(a, b);
        let (w, bias) = probe.weights().unwrap();
        for (found, expected) in vector(&w).iter().chain(&vector(&bias)).zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{n} {d}: {found} {expected}");
        }
        // R² of the rows that are left.
        let test: Vec<usize> = (0..n).filter(|row| !train.contains(row)).collect();
        let mean = test.iter().map(|&row| labels[row]).sum::<f64>() / test.len() as f64;
        let off: f64 = test.iter().map(|&row| (dot(&with_one(row), &expected) - labels[row]).powi(2)).sum();
        let spread: f64 = test.iter().map(|&row| (labels[row] - mean).powi(2)).sum();
        assert!((probe.score() - (1.0 - off / spread)).abs() < 1e-6);
    }
}

#[test]
fn logistic_regression_is_at_its_optimum() {
    // The penalised loss is strictly convex in the weights, so its optimum is where its gradient, here written out, is zero.
    for (n, d, classes) in [(120, 4, 2), (150, 3, 3), (30, 50, 2)] {
        let rows = noise(n, d, 6);
        let class = |row: &Vec<f64>| match classes {
            2 => usize::from(row[0] + row[1] > 0.3),
            _ => usize::from(row[0] > -0.4) + usize::from(row[1] > 0.4),
        };
        let labels: Vec<usize> = rows.iter().map(class).collect();
        let l2 = 0.05;
        let options = ProbeOptions::new().l2(l2).standardize(false).controls(0);
        let x = tensor(&rows);
        let probe = Probe::fit(&x, &labels, &options).unwrap();
        assert!(probe.convergence().1 <= 1e-8);
        let weights = probe.weights().unwrap();
        let (w, b) = (vector(&weights.0), vector(&weights.1));
        let train = training_rows(&labels, &options);
        assert_eq!(train.len(), probe.rows().0);
        let outputs = b.len();
        let mut gradient = vec![0.0; outputs * (d + 1)];
        for &row in &train {
            let logits: Vec<f64> = (0..outputs).map(|k| dot(&w[k * d..(k + 1) * d], &rows[row]) + b[k]).collect();
            let logits = if outputs == 1 { vec![0.0, logits[0]] } else { logits };
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            for k in 0..outputs {
                let class = if outputs == 1 { 1 } else { k };
                let residual = logits[class].exp() / sum - f64::from(u8::from(labels[row] == class));
                for i in 0..d {
                    gradient[k * (d + 1) + i] += residual * rows[row][i] / train.len() as f64;
                }
                gradient[k * (d + 1) + d] += residual / train.len() as f64;
            }
        }
        for k in 0..outputs {
            for i in 0..d {
                gradient[k * (d + 1) + i] += l2 * w[k * d + i];
            }
        }
        // The weights come back as f32.
        let largest = gradient.iter().fold(0f64, |largest, g| largest.max(g.abs()));
        assert!(largest < 1e-6, "{largest} for {classes} classes of {d} features");
        let p = probe.probabilities(&x).unwrap();
        assert_eq!(p.dims(), [n, classes]);
        assert!(vector(&p.sum(1).unwrap()).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
        let predicted = probe.predict(&x).unwrap();
        let right = train.iter().filter(|&&row| predicted[row] == labels[row]).count();
        assert!((right as f64 / train.len() as f64 - probe.train_score()).abs() < 1e-9);
    }
}

#[test]
fn types_can_be_learned_by_heart() {
    // Features that name one of ten types, and labels that have nothing to do with them.
    let n = 400;
    let types: Vec<u32> = (0..n as u32).map(|i| i % 10).collect();
    let rows: Vec<Vec<f64>> =
        types.iter().map(|&kind| (0..10).map(|j| f64::from(u8::from(j == kind))).collect()).collect();
    let mut rng = StdRng::seed_from_u64(8);
    let labels: Vec<bool> = (0..n).map(|_| rng.random()).collect();
    let options = ProbeOptions::new().controls(4);
    let shuffled = Probe::fit(&tensor(&rows), &labels, &options).unwrap();
    let by_type = Probe::fit(&tensor(&rows), &labels, &options.control_types(types)).unwrap();
    assert!(shuffled.control().unwrap() < 0.65, "{:?}", shuffled.control());
    // Each type has one label throughout, which the one-hot feature gives away.
    assert!(by_type.control().unwrap() > 0.99, "{:?}", by_type.control());
}

#[test]
fn the_order_of_two_names_is_read_and_steered() {
    let model = HookedTransformer::from_pretrained("tiny").unwrap();
    let names = ["Mary", "John", "Anna", "Tom", "Alice", "Paul", "Emma", "James"];
    let mut texts = Vec::new();
    let mut first = Vec::new();
    for a in names {
        for b in names.iter().filter(|b| **b != a) {
            texts.push(format!("When {a} and {b} went to the park"));
            first.push(a);
        }
    }
    let probes =
        probe_layers(&model, &texts, &first, ["hook_embed", "resid_post"], 2, &ProbeOptions::new().controls(1))
            .unwrap();
    // Position 2 is the first name itself: the embedding knows it.
    assert_eq!(probes.probes().len(), 1 + model.cfg().n_layers);
    let (point, best) = probes.best().unwrap();
    assert_eq!((point.name(), best.score()), ("hook_embed", 1.0));
    assert!(best.control().unwrap() < 0.4 && (best.baseline() - 0.125).abs() < 0.01);
    let chart = probes.bundle().text;
    assert!(chart.contains("held out") && chart.contains("shuffled labels"), "{chart}");
    assert!(best.bundle().text.contains("selectivity"));
    let direction = best.direction_to("Mary").unwrap();
    assert!((direction.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap() - 1.0).abs() < 1e-5);
    assert!(error(best.direction()).contains("direction_to"));
    // Moved by the difference of the means, another name reads as Mary.
    let x = &features(&model, &texts, embed(), 2).unwrap()[0].1;
    let mary = best.classes().iter().position(|name| name == "Mary").unwrap();
    let moved = x.broadcast_add(&(best.mean_difference("Mary").unwrap() * 2.0).unwrap()).unwrap();
    assert!(best.predict(&moved).unwrap().iter().all(|class| *class == mary));
    assert!(error(best.mean_difference("Zoe")).contains("no class 'Zoe'"));
}

#[test]
fn features_are_the_activations_at_their_positions() {
    let model = HookedTransformer::from_pretrained("tiny").unwrap();
    let texts = ["John gave a book to Mary.", "Mary", "Mary saw John and Mary went home"];
    let at = |position: ProbePosition| features(&model, texts, z(1), position).unwrap().remove(0).1;
    let alone = |text: &str, pos: i64| {
        let (_, cache) = model.run_with_cache_of(text, z(1)).unwrap();
        let z = cache.get(z(1)).unwrap().squeeze(0).unwrap().flatten_from(1).unwrap();
        let pos = if pos < 0 { pos + z.dim(0).unwrap() as i64 } else { pos };
        vector(&z.get(pos as usize).unwrap())
    };
    let check = |found: Tensor, positions: [i64; 3]| {
        for (row, (text, pos)) in texts.iter().zip(positions).enumerate() {
            let found = vector(&found.get(row).unwrap());
            assert!(found.iter().zip(alone(text, pos)).all(|(found, alone)| (found - alone).abs() < 1e-5), "{text}");
        }
    };
    check(at(ProbePosition::Last), [-1, -1, -1]);
    check(at((-1).into()), [-1, -1, -1]);
    check(at(0.into()), [0, 0, 0]);
    check(at(vec![3, 1, 2].into()), [3, 1, 2]);
    let two = ["John saw Mary and Mary", "Then Mary"];
    let found = features(&model, two, embed(), " Mary").unwrap().remove(0).1;
    let mary = model.to_single_token(" Mary").unwrap() as usize;
    let expected = model.w_e().get(mary).unwrap();
    for row in 0..2 {
        assert_eq!(vector(&found.get(row).unwrap()), vector(&expected));
    }
    let mean = vector(&features(&model, two, embed(), ProbePosition::Mean).unwrap().remove(0).1.get(1).unwrap());
    let ids = model.to_tokens("Then Mary").unwrap().ids()[0].clone();
    let sum: Vec<f64> = (0..mean.len())
        .map(|i| {
            ids.iter().map(|&id| vector(&model.w_e().get(id as usize).unwrap())[i]).sum::<f64>() / ids.len() as f64
        })
        .collect();
    assert!(mean.iter().zip(sum).all(|(mean, sum)| (mean - sum).abs() < 1e-5));

    assert!(
        error(features(&model, texts, z(1), 9)).contains("text 0 has 8 tokens"),
        "{}",
        error(features(&model, texts, z(1), 9))
    );
    assert!(error(features(&model, texts, z(1), vec![0, 0])).contains("3 texts and 2 positions"));
    assert!(error(features(&model, texts, z(1), " Tom")).contains("does not occur in text 0"));
    assert!(error(features(&model, texts, z(1), " no such token")).contains("single one"));
    assert!(error(features(&model, vec!["x"; 0], z(1), 0)).contains("empty"));
}

#[test]
fn bad_input_is_a_sentence() {
    let x = tensor(&noise(20, 3, 9));
    let labels: Vec<bool> = (0..20).map(|i| i % 2 == 0).collect();
    let fit = |labels: ProbeTarget, options: ProbeOptions| Probe::fit(&x, labels, &options);
    let new = ProbeOptions::new;
    assert!(error(fit(labels[..19].into(), new())).contains("20 rows of features and 19 labels"));
    assert!(error(fit(vec!["cat"; 20].into(), new())).contains("all 20 labels are 'cat'"));
    assert!(error(fit(vec![1.5f32; 20].into(), new())).contains("nothing to learn"));
    assert!(error(fit([vec![f64::NAN], vec![0.0; 19]].concat().into(), new())).contains("row 0 is NaN"));
    assert!(error(fit(labels.clone().into(), new().l2(0.0))).contains("l2 is 0"));
    assert!(error(fit(labels.clone().into(), new().test_fraction(1.0))).contains("between 0 and 1"));
    assert!(error(fit(labels.clone().into(), new().test_fraction(0.01))).contains("too few"));
    assert!(error(fit(labels.clone().into(), new().max_iterations(1))).contains("did not converge"));
    assert!(error(fit(labels.clone().into(), new().control_types(vec![1]))).contains("1 control types"));
    assert!(error(Probe::fit(&tensor(&noise(20, 3, 9)).unsqueeze(0).unwrap(), &labels, &new())).contains("[n, d]"));
    let mut bad = noise(20, 3, 9);
    bad[4][1] = f64::INFINITY;
    assert!(error(Probe::fit(&tensor(&bad), &labels, &new())).contains("feature 1 of row 4 is inf"));
    assert!(error(Probe::fit(&tensor(&noise(1, 3, 9)), [true], &new())).contains("two classes"));
    let none = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(error(Probe::fit(&none, Vec::<bool>::new(), &new())).contains("no labels"));
    assert!(error(Probe::fit(&none, Vec::<f32>::new(), &new())).contains("nothing to learn"));

    let probe = fit(labels.clone().into(), new()).unwrap();
    assert!(error(probe.predict(&tensor(&noise(4, 5, 9)))).contains("[n, 3]"));
    assert!(error(probe.direction_to("maybe")).contains("no class 'maybe' (false, true)"));
    let numbers = fit(noise(20, 1, 3).concat().into(), new()).unwrap();
    assert!(
        error(numbers.predict(&x)).contains("reads numbers") && error(numbers.confusion()).contains("reads numbers")
    );
    // Features that never vary say nothing: the best guess is all there is.
    let flat = Tensor::ones((20, 3), DType::F32, &Device::Cpu).unwrap();
    let probe = Probe::fit(&flat, &labels, &new()).unwrap();
    assert_eq!(probe.score(), probe.baseline());
    assert!(error(probe.direction()).contains("no feature varies"));
    let model = HookedTransformer::from_pretrained("tiny").unwrap();
    assert!(
        error(probe_layers(&model, ["a", "b"], [true], "resid_post", 0, &new()))
            .contains("2 rows of features and 1 label")
    );
}
