//! Standard output of the commands. A reader that went away (`cairnctl status | head -1`) ends the
//! output, not the command.

use std::fmt::Display;
use std::io::Write;

/// Writes a line, or several.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
