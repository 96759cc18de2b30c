//! What candlescope's kernel puts around the code of a cell: how its last value is shown, how it prints, and what is done
//! when it is over. Nothing here is meant to be written by hand.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_void;
use std::fmt::Debug;
use std::io::Write;

pub use crate::{
    cell_dbg as dbg, cell_eprint as eprint, cell_eprintln as eprintln, cell_print as print, cell_println as println,
};

/// How a value is shown that has no display of its own, but can be written with `{:?}`.
///
/// It is implemented for references only, so that `(&value).evcxr_display()` finds everything else first: a type's own method
/// of that name, then [`Show`](crate::display::Show).
pub trait ShowDebug {
    /// Shows the value as text.
    fn evcxr_display(&self);
}

impl<T: Debug + ?Sized> ShowDebug for &T {
    fn evcxr_display(&self) {
        send("text/plain", &format!("{self:?}"));
    }
}

/// Takes one reference off, where there is more than one: what is behind references shows itself.
pub trait Peel {
    /// What the reference refers to.
    type Inner: ?Sized;

    /// With one reference less, but at least one.
    fn peel(&self) -> &Self::Inner;
}

impl<T: ?Sized> Peel for &T {
    type Inner = T;

    fn peel(&self) -> &T {
        self
    }
}

/// Shows the value that a cell ends with.
#[macro_export]
macro_rules! show_value {
    ($value:expr) => {
        match &($value) {
            value => {
                #[allow(unused_imports)]
                use $crate::{cell::Peel as _, cell::ShowDebug as _, display::Show as _};
                (value).peel().peel().peel().evcxr_display()
            }
        }
    };
}

/// As `print!`. Text that does not end its line is sent when the cell is over.
#[macro_export]
macro_rules! cell_print {
    ($($arg:tt)*) => { ::std::print!($($arg)*) };
}

/// As `println!`.
#[macro_export]
macro_rules! cell_println {
    ($($arg:tt)*) => { ::std::println!($($arg)*) };
}

/// As `eprint!`, but in order with what the cell writes to standard output.
#[macro_export]
macro_rules! cell_eprint {
    ($($arg:tt)*) => { $crate::cell::write_error(&::std::format!($($arg)*)) };
}

/// As `eprintln!`, but in order with what the cell writes to standard output.
#[macro_export]
macro_rules! cell_eprintln {
    () => { $crate::cell::write_error("\n") };
    ($($arg:tt)*) => { $crate::cell::write_error(&(::std::format!($($arg)*) + "\n")) };
}

/// As `dbg!`, but in order with what the cell writes to standard output, and without the line of the cell's file.
#[macro_export]
macro_rules! cell_dbg {
    () => { $crate::cell::write_error("dbg!()\n") };
    ($value:expr $(,)?) => {
        match $value {
            value => {
                $crate::cell::write_error(&::std::format!("{} = {:#?}\n", ::std::stringify!($value), &value));
                value
            }
        }
    };
    ($($value:expr),+ $(,)?) => { ($($crate::cell_dbg!($value)),+,) };
}

/// Text for standard error, through standard output: of two pipes, nobody could tell afterwards what came first.
pub fn write_error(text: &str) {
    // In JSON it is one line, whatever is in it.
    send("candlescope/stderr", &serde_json::Value::from(text).to_string());
}

fn send(mime: &str, text: &str) {
    let mut out = std::io::stdout().lock();
    let message = format!("EVCXR_BEGIN_CONTENT {mime}\n{text}\nEVCXR_END_CONTENT\n");
    // A kernel that is gone has nobody left to tell.
    let _ = out.write_all(message.as_bytes()).and_then(|()| out.flush());
}

thread_local! {
    /// Variables that the running cell defines anew, as they were before it. All cells run on one thread.
    static KEPT: RefCell<Vec<(String, Box<dyn Any>)>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what a variable was, in case the cell that defines it anew fails.
pub fn keep<T: 'static>(name: &str, value: T) {
    KEPT.with_borrow_mut(|kept| kept.push((name.to_string(), Box::new(value))));
}

/// The cell went well, and what its variables were before is not needed.
pub fn drop_kept() {
    // Dropping values may run code of theirs, so not while the list is borrowed.
    drop(KEPT.take());
}

/// What a variable was before the cell that failed.
///
/// # Errors
/// When it was not kept, or was of another type.
pub fn take_kept<T: 'static>(name: &str) -> Result<T, String> {
    let found = KEPT.with_borrow_mut(|kept| {
        let at = kept.iter().position(|(other, _)| other == name)?;
        Some(kept.remove(at).1)
    });
    let value = found.ok_or_else(|| format!("'{name}' was not kept"))?;
    value.downcast().map(|value| *value).map_err(|_| format!("'{name}' was of another type"))
}

/// Keeps a copy of a variable that the cell itself needs, where it can be copied.
pub trait KeepCopy {
    /// Keeps a copy.
    fn keep_copy(&self, name: &str);
}

impl<T: Clone + 'static> KeepCopy for T {
    fn keep_copy(&self, name: &str) {
        keep(name, self.clone());
    }
}

/// Keeps nothing of a variable that can't be copied.
pub trait KeepNothing {
    /// Keeps nothing.
    fn keep_copy(&self, _: &str) {}
}

impl<T> KeepNothing for &T {}

/// Keeps a copy of a variable, if there is a way.
#[macro_export]
macro_rules! keep_copy {
    ($variable:ident) => {
        match &$variable {
            variable => {
                #[allow(unused_imports)]
                use $crate::cell::{KeepCopy as _, KeepNothing as _};
                (variable).keep_copy(stringify!($variable))
            }
        }
    };
}

/// The relay has this called behind every cell, as if it were one: text that waits for the end of its line is written now.
#[unsafe(no_mangle)]
pub extern "C" fn candlescope_after_cell(store: *mut c_void) -> *mut c_void {
    let _ = std::io::stdout().flush();
    store
}
