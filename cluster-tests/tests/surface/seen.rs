//! What a case has seen: lines of a name and a value, in order, that are compared between file systems.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    lines: Vec<(String, String)>,
}

impl Seen {
    /// Something has this value.
    pub(crate) fn is(&mut self, what: impl Into<String>, value: impl Display) {
        self.lines.push((what.into(), value.to_string()));
    }

    /// A call ended like this: `ok` or the name of the error.
    pub(crate) fn code<T, E: Into<io::Error>>(&mut self, what: impl Into<String>, result: Result<T, E>) {
        self.is(what, code(result));
    }

    /// A call returned this, or an error.
    pub(crate) fn got<T: Display, E: Into<io::Error>>(&mut self, what: impl Into<String>, result: Result<T, E>) {
        let text = match result {
            Ok(value) => value.to_string(),
            Err(error) => code::<(), _>(Err(error)),
        };
        self.is(what, text);
    }

    /// Number of lines.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Every name of either, with the values of both; names may come more than once.
    pub(crate) fn compared_with(&self, other: &Self) -> Vec<(String, String, String)> {
        let mut names: BTreeMap<&str, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
        self.lines.iter().for_each(|(what, value)| names.entry(what).or_default().0.push(value));
        other.lines.iter().for_each(|(what, value)| names.entry(what).or_default().1.push(value));
        let text = |values: Vec<&str>| if values.is_empty() { "nothing".to_owned() } else { values.join(", ") };
        names.into_iter().map(|(what, (here, there))| (what.to_owned(), text(here), text(there))).collect()
    }

    /// For another process.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&self.lines).expect("strings")
    }

    /// From another process.
    pub(crate) fn append_encoded(&mut self, bytes: &[u8]) {
        let lines: Vec<(String, String)> = serde_json::from_slice(bytes).unwrap_or_default();
        self.lines.extend(lines);
    }
}

/// `ok` or the name of the error.
pub(crate) fn code<T, E: Into<io::Error>>(result: Result<T, E>) -> String {
    const NAMES: &[(i32, &str)] = &[
        (libc::E2BIG, "E2BIG"),
        (libc::EACCES, "EACCES"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::EBADF, "EBADF"),
        (libc::EBUSY, "EBUSY"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::EADDRINUSE, "EADDRINUSE"),
        (libc::EEXIST, "EEXIST"),
        (libc::EFAULT, "EFAULT"),
        (libc::EFBIG, "EFBIG"),
        (libc::EINVAL, "EINVAL"),
        (libc::EIO, "EIO"),
        (libc::EISDIR, "EISDIR"),
        (libc::ELOOP, "ELOOP"),
        (libc::EMLINK, "EMLINK"),
        (libc::ENAMETOOLONG, "ENAMETOOLONG"),
        (libc::ENODATA, "ENODATA"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOENT, "ENOENT"),
        (libc::ENOEXEC, "ENOEXEC"),
        (libc::ENOSPC, "ENOSPC"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::ENOTEMPTY, "ENOTEMPTY"),
        (libc::ENOTTY, "ENOTTY"),
        (libc::ENXIO, "ENXIO"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EOVERFLOW, "EOVERFLOW"),
        (libc::EPERM, "EPERM"),
        (libc::ERANGE, "ERANGE"),
        (libc::EROFS, "EROFS"),
        (libc::ESPIPE, "ESPIPE"),
        (libc::ESTALE, "ESTALE"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::EXDEV, "EXDEV"),
    ];
    let Err(error) = result else { return "ok".to_owned() };
    let error: io::Error = error.into();
    let number = error.raw_os_error();
    let name = NAMES.iter().find(|(own, _)| Some(*own) == number).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("{error:?}"))
}
