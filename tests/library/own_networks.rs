//! Hook points in networks that are no transformer: nested, with interventions, caches and gradients.

use candle_core::Var;
use candlescope::prelude::*;

/// The network of TransformerLens' Main Demo.
struct SquareThenAdd {
    hook_square: HookPoint,
    offset: Tensor,
}

impl SquareThenAdd {
    fn new(offset: Tensor) -> Self {
        Self { hook_square: HookPoint::new("hook_square"), offset }
    }
}

impl HookedModule for SquareThenAdd {
    type Input = Tensor;
    type Output = Tensor;

    fn hook_points(&self) -> Vec<HookPoint> {
        vec![self.hook_square.clone()]
    }

    fn forward(&self, x: &Tensor, tap: &mut Tap) -> candlescope::Result<Tensor> {
        Ok((tap.pass(&self.hook_square, x.sqr()?)? + &self.offset)?)
    }
}

struct TwoLayers {
    layer1: SquareThenAdd,
    layer2: SquareThenAdd,
    hook_in: HookPoint,
}

impl HookedModule for TwoLayers {
    type Input = Tensor;
    type Output = Tensor;

    fn hook_points(&self) -> Vec<HookPoint> {
        let own = vec![self.hook_in.clone()];
        [own, self.layer1.hook_points_in("layer1"), self.layer2.hook_points_in("layer2")].concat()
    }

    fn forward(&self, x: &Tensor, tap: &mut Tap) -> candlescope::Result<Tensor> {
        let x = tap.pass(&self.hook_in, x.clone())?;
        let x = self.layer1.forward_in("layer1", &x, tap)?;
        self.layer2.forward_in("layer2", &x, tap)
    }
}

/// One more level, with layers that are counted.
struct Stack {
    blocks: Vec<TwoLayers>,
}

impl HookedModule for Stack {
    type Input = Tensor;
    type Output = Tensor;

    fn hook_points(&self) -> Vec<HookPoint> {
        self.blocks.iter().enumerate().flat_map(|(i, block)| block.hook_points_in(&format!("blocks.{i}"))).collect()
    }

    fn forward(&self, x: &Tensor, tap: &mut Tap) -> candlescope::Result<Tensor> {
        let mut blocks = self.blocks.iter().enumerate();
        blocks.try_fold(x.clone(), |x, (i, block)| block.forward_in(&format!("blocks.{i}"), &x, tap))
    }
}

fn scalar(value: f32) -> Tensor {
    Tensor::new(value, &Device::Cpu).unwrap()
}

fn two_layers() -> TwoLayers {
    let layer = |offset| SquareThenAdd::new(scalar(offset));
    TwoLayers { layer1: layer(3.0), layer2: layer(-4.0), hook_in: HookPoint::new("hook_in") }
}

fn value(t: Tensor) -> f32 {
    t.to_scalar().unwrap()
}

#[test]
fn modules_in_modules_have_the_names_of_both() {
    let net = two_layers();
    let names: Vec<String> = net.hook_points().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["hook_in", "layer1.hook_square", "layer2.hook_square"]);
    let (out, cache) = net.run_with_cache(&scalar(5.0)).unwrap();
    // 5² + 3 = 28, 28² - 4 = 780.
    assert_eq!(value(out), 780.0);
    let values: Vec<f32> = cache.iter().map(|(_, activation)| value(activation.clone())).collect();
    assert_eq!(values, [5.0, 25.0, 784.0]);
    assert_eq!(value(cache.get("layer2.hook_square").unwrap()), 784.0);
    assert_eq!(value(cache.get("hook_in").unwrap()), 5.0);
    // The part still runs by itself, under its own names.
    assert_eq!(value(net.layer1.run_with_cache(&scalar(5.0)).unwrap().1.get("hook_square").unwrap()), 25.0);

    let stack = Stack { blocks: vec![two_layers(), two_layers()] };
    let (_, cache) = stack.run_with_cache(&scalar(1.0)).unwrap();
    assert_eq!(cache.len(), 6);
    // 1 -> 12; then 12² = 144 is the first square of the second block.
    assert_eq!(value(cache.get("blocks.1.layer1.hook_square").unwrap()), 144.0);
    assert_eq!(value(cache.get(("layer1.hook_square", 1)).unwrap()), 144.0);
}

#[test]
fn hooks_act_inside_of_sub_modules() {
    let net = two_layers();
    let zero = Hooks::new().edit("layer2.hook_square", |square, point| {
        assert_eq!(point.name(), "layer2.hook_square");
        Ok(square.zeros_like()?)
    });
    assert_eq!(value(net.run_with_hooks(&scalar(5.0), &zero).unwrap()), -4.0);
    let (out, cache) = net.run_with_hooks_and_cache(&scalar(5.0), &zero, "layer1.hook_square").unwrap();
    assert_eq!((value(out), cache.len()), (-4.0, 1));
    // A bare name means all modules that have it.
    let both = Hooks::new().edit("hook_square", |square, _| Ok((square + 1.0)?));
    assert_eq!(value(net.run_with_hooks(&scalar(0.0), &both).unwrap()), 4f32.powi(2) + 1.0 - 4.0);
}

#[test]
fn gradients_flow_through_hooks() {
    let offset = Var::new(3f32, &Device::Cpu).unwrap();
    let net = TwoLayers { layer1: SquareThenAdd::new(offset.as_tensor().clone()), ..two_layers() };
    let x = Var::new(2f32, &Device::Cpu).unwrap();
    let double = Hooks::new().edit("layer1.hook_square", |square, _| Ok((square * 2.0)?));
    let (out, cache) = net.run_with_hooks_and_cache(x.as_tensor(), &double, all()).unwrap();
    // (2x² + c)² - 4
    assert_eq!(value(out.clone()), 117.0);
    let grads = out.backward().unwrap();
    assert_eq!(value(grads.get(x.as_tensor()).unwrap().clone()), 2.0 * 11.0 * 8.0);
    assert_eq!(value(grads.get(offset.as_tensor()).unwrap().clone()), 2.0 * 11.0);
    // What the cache holds is part of the graph too.
    let square = cache.get("layer2.hook_square").unwrap();
    assert_eq!(value(square.backward().unwrap().get(x.as_tensor()).unwrap().clone()), 176.0);
}

#[test]
fn points_that_are_listed_twice_or_not_at_all_are_errors() {
    struct Twice(TwoLayers);
    impl HookedModule for Twice {
        type Input = Tensor;
        type Output = Tensor;
        fn hook_points(&self) -> Vec<HookPoint> {
            // Both under one name.
            [self.0.layer1.hook_points_in("layer"), self.0.layer2.hook_points_in("layer")].concat()
        }
        fn forward(&self, x: &Tensor, tap: &mut Tap) -> candlescope::Result<Tensor> {
            self.0.layer1.forward_in("layer", x, tap)
        }
    }
    let twice = Twice(two_layers()).run_with_cache(&scalar(5.0)).unwrap_err().to_string();
    assert!(twice.contains("'layer.hook_square' twice") && twice.contains("hook_points_in"), "{twice}");

    struct Forgotten(SquareThenAdd);
    impl HookedModule for Forgotten {
        type Input = Tensor;
        type Output = Tensor;
        fn hook_points(&self) -> Vec<HookPoint> {
            self.0.hook_points_in("layer")
        }
        fn forward(&self, x: &Tensor, tap: &mut Tap) -> candlescope::Result<Tensor> {
            self.0.forward(x, tap)
        }
    }
    let net = Forgotten(SquareThenAdd::new(scalar(1.0)));
    let forgotten = net.run_with_hooks(&scalar(5.0), &Hooks::new()).unwrap_err().to_string();
    assert!(forgotten.contains("'hook_square', which hook_points() does not list"), "{forgotten}");
    // Outside of a run with hooks, the pass is as it is.
    assert_eq!(value(net.forward(&scalar(5.0), &mut Tap::closed()).unwrap()), 26.0);
    let unknown = two_layers().run_with_hooks(&scalar(5.0), &Hooks::new().replace("layer3.hook_square", scalar(0.0)));
    assert!(unknown.unwrap_err().to_string().contains("layer3.hook_square"));
}
