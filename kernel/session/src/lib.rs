pub use candlescope::*;
