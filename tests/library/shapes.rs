//! Tensors of any shape, size and content have a look: as text, picture and page, and never a panic.

use candlescope::prelude::*;

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

/// Every form of a value, each with something in it; the text.
fn looked_at(value: &impl Show) -> String {
    let bundle = value.bundle();
    assert!(!bundle.text.is_empty());
    assert!(bundle.html.as_ref().is_none_or(|html| html.contains("candlescope")));
    assert_eq!(bundle.png.is_some(), bundle.svg().is_some());
    if let Some(png) = &bundle.png {
        assert!(png.starts_with(b"\x89PNG") && png.len() < 400_000, "{} bytes", png.len());
        assert!(bundle.svg().unwrap().starts_with("<svg"));
    }
    bundle.text
}

#[test]
fn every_rank_has_a_look() {
    for shape in [&[][..], &[1], &[1, 1], &[7], &[5000], &[3, 4], &[2, 3, 4], &[2, 2, 3, 4], &[2, 1, 2, 3, 4], &[1; 6]]
    {
        let text = looked_at(&zeros(shape));
        assert!(text.contains(&format!("{shape:?}")), "{text}");
    }
}

#[test]
fn emptiness_has_a_look() {
    for shape in [&[0][..], &[0, 3], &[3, 0], &[2, 0, 3], &[0, 0, 0, 0], &[1, 1, 0, 1, 1]] {
        let text = looked_at(&zeros(shape));
        assert!(text.contains(&format!("{shape:?}")), "{text}");
    }
    looked_at(&imshow(&zeros(&[0, 3])).unwrap());
    looked_at(&line(&zeros(&[0])).unwrap());
    looked_at(&hist(&zeros(&[0, 2])).unwrap());
    looked_at(&scatter(&zeros(&[0]), &zeros(&[0])).unwrap());
    looked_at(&bars(Vec::<String>::new(), &zeros(&[0])).unwrap());
    looked_at(&Facets::from_tensor(&zeros(&[0, 3, 3])).unwrap());
    looked_at(&AttentionView::new(&zeros(&[0, 0, 0]), Vec::<String>::new()).unwrap());
    looked_at(&TokenBoxes::new(Vec::<String>::new()).values("loss", []));
    looked_at(&LineChart::new());
    looked_at(&ComplexPlane::new(Vec::<f64>::new(), Vec::<f64>::new()).unwrap());
}

#[test]
fn what_is_no_number_is_marked_and_counted() {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, -2.0, 0.0, f32::NAN, 3.0];
    let odd = Tensor::new(&odd, &Device::Cpu).unwrap();
    for shape in [&[8][..], &[2, 4], &[4, 2], &[2, 2, 2], &[1, 2, 2, 1, 2]] {
        let text = looked_at(&odd.reshape(shape).unwrap());
        assert!(text.contains("NaN"), "{shape:?}: {text}");
    }
    let legend = looked_at(&imshow(&odd.reshape((2, 4)).unwrap()).unwrap());
    assert!(legend.contains("grey: NaN (2), yellow: +inf (1), purple: -inf (1)"), "{legend}");
    assert!(looked_at(&hist(&odd).unwrap()).contains("2 NaN"));
    for only in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let all = Tensor::full(only, (3, 3), &Device::Cpu).unwrap();
        looked_at(&all);
        looked_at(&hist(&all).unwrap());
        looked_at(&line(&all).unwrap());
        looked_at(&scatter(&all, &all).unwrap().diagonal());
        looked_at(&AttentionView::new(&all, ["a", "b", "c"]).unwrap());
    }
}

#[test]
fn extreme_numbers_have_a_look() {
    let values = [f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1), -0.0, 1e-30];
    let extreme = Tensor::new(&values, &Device::Cpu).unwrap();
    looked_at(&extreme);
    looked_at(&imshow(&extreme.reshape((2, 3)).unwrap()).unwrap());
    looked_at(&hist(&extreme).unwrap());
    looked_at(&line(&extreme).unwrap().log_x().log_y());
    looked_at(&scatter(&extreme, &extreme).unwrap().log_x().log_y());
    let bars = BarChart::new(values.map(|value| value.to_string()), values).unwrap();
    looked_at(&bars);
}

/// Views without a copy of it: 10^8 numbers that are not even in memory.
#[test]
fn a_hundred_million_numbers_are_summarised() {
    let many = Tensor::new(&[1.5f32], &Device::Cpu).unwrap();
    for shape in [&[100_000_000][..], &[10_000, 10_000], &[100, 1000, 1000], &[10, 10, 10, 1000, 100]] {
        let text = looked_at(&many.broadcast_as(shape).unwrap());
        assert!(text.contains("sample") || text.contains("of 100,000,000"), "{shape:?}: {text}");
    }
    assert!(looked_at(&hist(&many.broadcast_as(100_000_000).unwrap()).unwrap()).contains("of 100,000,000 values"));
}

#[test]
fn every_dtype_has_a_look() {
    let numbers = Tensor::arange(0u32, 12, &Device::Cpu).unwrap().reshape((3, 4)).unwrap();
    for dtype in [DType::U8, DType::U32, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64] {
        let turned = numbers.to_dtype(dtype).unwrap().t().unwrap();
        assert!(looked_at(&turned).contains("[4, 3]"));
    }
}
