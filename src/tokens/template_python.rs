//! What chat templates expect from Python: how values are written, and the functions that Hugging Face gives them.

use std::fmt;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// More than this is no layout.
const LARGEST_INDENT: usize = 16;

/// A template's own words on why it does not take a chat.
#[derive(Debug)]
pub(super) struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// `raise_exception("..")`: the template refuses the chat.
pub(super) fn raise_exception(words: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "the template raised an exception").with_source(Refusal(words)))
}

/// `strftime_now("%d %b %Y")`: today, in UTC.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    strftime(format, now)
}

/// Methods of Python's strings, lists and dictionaries.
pub(super) fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    // Formats may ask for any width, and the fuel would only be charged for it afterwards.
    if name == "format" && value.as_str().is_some_and(|text| text.contains(':')) {
        return Err(invalid("str.format with a format after a colon is not supported"));
    }
    unknown_method_callback(state, value, name, arguments)
}

/// Writes a value as Python's `str` does, which has `True`, `False` and `None`.
pub(super) fn write(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool if value.is_true() => Ok(output.write_str("True")?),
        ValueKind::Bool => Ok(output.write_str("False")?),
        ValueKind::None => Ok(output.write_str("None")?),
        _ => minijinja::escape_formatter(output, state, value),
    }
}

/// `value | tojson`: JSON as Python's `json.dumps` lays it out. Nothing is escaped for HTML.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(invalid("tojson(ensure_ascii=true) is not supported"));
    }
    options.assert_all_used()?;
    match indent {
        None => serialize(value, OneLine),
        Some(indent) if indent <= LARGEST_INDENT => {
            serialize(value, PrettyFormatter::with_indent(&b" ".repeat(indent)))
        }
        Some(indent) => Err(invalid(format!("tojson(indent={indent}) is more than {LARGEST_INDENT}"))),
    }
}

fn serialize(value: &Value, layout: impl Formatter) -> Result<String, Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, layout)).map_err(invalid)?;
    String::from_utf8(bytes).map_err(invalid)
}

/// `[1, 2]` and `{"a": 1, "b": 2}`, with spaces after commas and colons.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// A moment, in seconds since 1970 and in UTC, by a format in C's notation with English names.
fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let days = seconds / 86_400;
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let half_day = if hour % 12 == 0 { 12 } else { hour % 12 };
    let month_name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
    // 1970 began on a Thursday.
    let weekday = WEEKDAYS.get((days as usize + 4) % 7).copied().unwrap_or_default();
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        // A minus says: without padding.
        let mut directive = letters.next();
        let bare = directive == Some('-');
        if bare {
            directive = letters.next();
        }
        let two = |number: u64| if bare { number.to_string() } else { format!("{number:02}") };
        text.push_str(&match directive {
            Some('Y') => year.to_string(),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('B') => month_name.to_string(),
            Some('b') => month_name.chars().take(3).collect(),
            Some('d') => two(day),
            Some('A') => weekday.to_string(),
            Some('a') => weekday.chars().take(3).collect(),
            Some('H') => two(hour),
            Some('I') => two(half_day),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_string(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".to_string(),
            other => {
                let other = other.map_or_else(String::new, String::from);
                return Err(invalid(format!("strftime_now does not know %{other} (in '{format}')")));
            }
        });
    }
    Ok(text)
}

/// Year, month and day of a day since 1970 began, by the Gregorian calendar.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn invalid(why: impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // Seconds and texts from Python's datetime, in UTC.
        for (seconds, expected) in [
            (0, "Thu 01 Jan 1970, 1 January 70, 12:00:00 AM"),
            (951_868_799, "Tue 29 Feb 2000, 29 February 00, 11:59:59 PM"),
            (1_721_995_200, "Fri 26 Jul 2024, 26 July 24, 12:00:00 PM"),
            (1_735_689_599, "Tue 31 Dec 2024, 31 December 24, 11:59:59 PM"),
            (4_107_542_400, "Mon 01 Mar 2100, 1 March 00, 12:00:00 AM"),
        ] {
            assert_eq!(strftime("%a %d %b %Y, %-d %B %y, %I:%M:%S %p", seconds).unwrap(), expected);
        }
        assert_eq!(strftime("%F %T 100%%", 1_721_998_800).unwrap(), "2024-07-26 13:00:00 100%");
        assert!(strftime("%Q", 0).unwrap_err().to_string().contains("%Q"));
        assert!(strftime("%", 0).is_err());
    }
}
