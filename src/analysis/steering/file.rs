//! Steering vectors as files: safetensors, one tensor for each hook point under its name, and in the header what they were
//! made from.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;

use super::{Origin, SteeringVector};
use crate::hooks::HookPoint;
use crate::whole_file::write_whole;
use crate::{Error, Result};

/// The header's entry that says what the vectors were made from, as JSON.
const ORIGIN: &str = "candlescope.steering";
/// The header's entry with the names in the order of the forward pass, as JSON.
const ORDER: &str = "candlescope.order";
/// What the file is called in messages.
const WHAT: &str = "a steering vector";

impl SteeringVector {
    /// Writes the vectors to a safetensors file: `[width]` each, f32, under their hook points' names
    /// (`blocks.3.hook_resid_post`). The header holds what they were made from. Any program that reads safetensors can use it.
    ///
    /// ```
    /// use candlescope::prelude::*;
    /// # fn main() -> candlescope::Result<()> {
    /// let model = HookedTransformer::from_pretrained("tiny")?;
    /// let angry = model.contrast("Anna was very angry.", "Anna was very happy.").difference()?;
    /// let path = std::env::temp_dir().join(format!("angry-{}.safetensors", std::process::id()));
    /// angry.save(&path)?;
    /// let same = SteeringVector::load(&path)?;
    /// assert_eq!(same.origin().positive, ["Anna was very angry."]);
    /// # std::fs::remove_file(path).ok(); Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let order: Vec<&str> = self.points().map(HookPoint::name).collect();
        let json = |value: serde_json::Result<String>| value.map_err(|error| Error::msg(error.to_string()));
        let header = HashMap::from([
            (ORIGIN.to_string(), json(serde_json::to_string(&self.origin))?),
            (ORDER.to_string(), json(serde_json::to_string(&order))?),
        ]);
        let tensors = self.vectors.iter().map(|(point, vector)| (point.name(), vector));
        write_whole(path.as_ref(), |unfinished| {
            safetensors::serialize_to_file(tensors, Some(header), unfinished)
                .map_err(|why| Error::msg(format!("{} can't be written: {why}", path.as_ref().display())))
        })
    }

    /// Reads what [`save`](Self::save) wrote, or any safetensors file with one vector under each hook point's name.
    ///
    /// # Errors
    /// A file that is missing, damaged, or holds something else than vectors.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bad = |why: String| Error::BadFile { what: WHAT.to_string(), path: path.into(), why };
        let damaged = |why: String| bad(format!("{why}; it may be truncated or damaged, so save the vector again"));
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|why| damaged(why.to_string()))?;
        let mut tensors =
            candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|why| damaged(why.to_string()))?;
        let header = header.metadata().clone().unwrap_or_default();
        let origin = match header.get(ORIGIN) {
            Some(json) => serde_json::from_str(json).map_err(|why| damaged(format!("'{ORIGIN}' is wrong: {why}")))?,
            None => Origin { method: format!("the file {}", path.display()), ..Origin::default() },
        };
        let mut order: Vec<String> = match header.get(ORDER) {
            Some(json) => serde_json::from_str(json).map_err(|why| damaged(format!("'{ORDER}' is wrong: {why}")))?,
            None => Vec::new(),
        };
        // What another program wrote may have no order; then the layers' numbers give one.
        let mut rest: Vec<String> = tensors.keys().filter(|name| !order.contains(name)).cloned().collect();
        rest.sort_by_key(|name| (HookPoint::new(name.as_str()).layer(), name.clone()));
        order.extend(rest);
        let vectors = order.into_iter().map(|name| -> Result<(HookPoint, Tensor)> {
            let vector = tensors.remove(&name).ok_or_else(|| damaged(format!("it lacks the vector '{name}'")))?;
            Ok((HookPoint::new(name), vector))
        });
        Self::of(vectors.collect::<Result<Vec<_>>>()?, origin).map_err(|why| bad(why.to_string()))
    }
}
