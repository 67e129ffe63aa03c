//! A Rust source file as the house rules see it: its lines, the same lines with comments and
//! contents of strings blanked out, and which lines are test code. A lexer for exactly that, no
//! parser: rules that need types belong in clippy.

use std::path::{Path, PathBuf};

/// One line of a source file.
pub struct Line {
    /// The line as it stands in the file.
    pub text: String,
    /// The line without comments; string contents are blanked, the quotes stay.
    pub code: String,
    /// Within an item under `#[cfg(test)]` (the attribute's line included).
    pub is_test: bool,
}

/// A source file.
pub struct SourceFile {
    /// Path from the root of the workspace, with `/`.
    pub path: String,
    /// Its lines, in order.
    pub lines: Vec<Line>,
}

impl SourceFile {
    /// Takes the text of a file apart.
    pub fn parse(path: &str, text: &str) -> Self {
        let code = blank(text);
        let code_lines: Vec<&str> = code.split('\n').collect();
        let mut lines: Vec<Line> = text
            .split('\n')
            .zip(&code_lines)
            .map(|(text, code)| Line { text: text.to_owned(), code: (*code).to_owned(), is_test: false })
            .collect();
        if lines.last().is_some_and(|line| line.text.is_empty()) {
            lines.pop();
        }
        mark_tests(&mut lines);
        Self { path: path.to_owned(), lines }
    }

    /// Reads every `.rs` file below the given folders of the workspace. Files that a parent declares
    /// as `#[cfg(test)] mod name;`, and those under a crate's `tests/`, are test code throughout.
    pub fn read_all(root: &Path, folders: &[&str]) -> std::io::Result<Vec<Self>> {
        let mut paths = Vec::new();
        for folder in folders {
            collect(&root.join(folder), &mut paths)?;
        }
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path)?;
            let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            files.push(Self::parse(&relative, &text));
        }
        let test_modules: Vec<String> = files.iter().flat_map(Self::declared_test_modules).collect();
        for file in &mut files {
            let stem = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
            let declared = test_modules
                .iter()
                .any(|module| stem == module || stem.strip_prefix(module).is_some_and(|rest| rest.starts_with('/')));
            if declared || file.path.contains("/tests/") {
                file.lines.iter_mut().for_each(|line| line.is_test = true);
            }
        }
        Ok(files)
    }

    /// Lines that are no test code, with their numbers from 1.
    pub fn production(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().filter(|(_, line)| !line.is_test).map(|(index, line)| (index + 1, line))
    }

    /// Whether a comment stands on the line (numbered from 1) or directly above it.
    pub fn is_commented(&self, number: usize) -> bool {
        let has_comment = |line: &Line| {
            let text = line.text.trim_start();
            // Documentation tells callers what an item does, not why a line inside cannot fail.
            let is_comment = text.starts_with("//") && !text.starts_with("///") && !text.starts_with("//!");
            is_comment || text.contains(" // ")
        };
        has_comment(&self.lines[number - 1]) || (number >= 2 && has_comment(&self.lines[number - 2]))
    }

    fn declared_test_modules(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        let mut modules = Vec::new();
        for line in self.lines.iter().filter(|line| line.is_test) {
            let code = line.code.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            if let Some(name) = code.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
                modules.push(format!("{folder}/{}", name.trim()));
            }
        }
        modules
    }
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, paths)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Marks the items under `#[cfg(test)]`: up to the `;` or the closing brace that ends the item.
fn mark_tests(lines: &mut [Line]) {
    let mut index = 0;
    while index < lines.len() {
        if !lines[index].code.trim_start().starts_with("#[cfg(test)]") {
            index += 1;
            continue;
        }
        let (mut depth, mut opened, mut end) = (0_i64, false, index);
        'item: for (number, line) in lines.iter().enumerate().skip(index) {
            end = number;
            for c in line.code.chars() {
                match c {
                    '{' => (depth, opened) = (depth + 1, true),
                    '}' => depth -= 1,
                    ';' if depth == 0 => break 'item,
                    _ => {}
                }
                if opened && depth == 0 {
                    break 'item;
                }
            }
        }
        lines[index..=end].iter_mut().for_each(|line| line.is_test = true);
        index = end + 1;
    }
}

/// Blanks comments and the contents of strings and characters, keeping every line break.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let blank_char = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            while i < chars.len() {
                if chars[i] == '/' && at(i + 1) == '*' {
                    (depth, i) = (depth + 1, i + 2);
                } else if chars[i] == '*' && at(i + 1) == '/' {
                    (depth, i) = (depth - 1, i + 2);
                    if depth == 0 {
                        break;
                    }
                } else {
                    out.push(blank_char(chars[i]));
                    i += 1;
                }
            }
        } else if let Some(hashes) = raw_string_hashes(&chars, i) {
            let open = i + usize::from(c == 'b') + 1 + hashes;
            out.extend(&chars[i..=open]);
            i = open + 1;
            let closes = |from: usize| at(from) == '"' && (1..=hashes).all(|n| at(from + n) == '#');
            while i < chars.len() && !closes(i) {
                out.push(blank_char(chars[i]));
                i += 1;
            }
            out.extend(chars.iter().skip(i).take(1 + hashes));
            i += 1 + hashes;
        } else if c == '"' {
            out.push('"');
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                out.push(blank_char(chars[i]));
                if chars[i] == '\\' && i + 1 < chars.len() {
                    i += 1;
                    out.push(blank_char(chars[i]));
                }
                i += 1;
            }
            out.push('"');
            i += 1;
        } else if c == '\'' && at(i + 1) == '\\' {
            let mut end = i + 3;
            while end < chars.len() && chars[end] != '\'' {
                end += 1;
            }
            out.push_str("' '");
            i = end + 1;
        } else if c == '\'' && at(i + 2) == '\'' {
            out.push_str("' '");
            i += 3;
        } else {
            out.push(c);
            i += 1;
        }
    }
    out
}

/// Number of `#` if a raw string (`r"`, `r#"`, `br"`) begins here.
fn raw_string_hashes(chars: &[char], i: usize) -> Option<usize> {
    let preceded = i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_');
    let r = if chars[i] == 'b' { i + 1 } else { i };
    if preceded || chars.get(r) != Some(&'r') {
        return None;
    }
    let hashes = chars[r + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(r + 1 + hashes) == Some(&'"')).then_some(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_tests_are_marked() {
        let text = "//! Doc.\nfn a() { let s = \"x.unwrap()\"; } // y.unwrap()\n/* z.unwrap()\n*/ fn b() {}\n\
                    const R: &str = r#\"w.unwrap() \"quoted\" \"#; const C: char = '\"'; const L: &'static str = \"\";\n\
                    #[cfg(test)]\nmod tests {\n    fn c() { q.unwrap(); }\n}\nfn d() { real.unwrap(); }\n";
        let file = SourceFile::parse("x/src/y.rs", text);
        let hits: Vec<usize> =
            file.lines.iter().enumerate().filter(|(_, l)| l.code.contains("unwrap")).map(|(n, _)| n + 1).collect();
        assert_eq!(hits, [8, 10], "only real code is left");
        let production: Vec<usize> =
            file.production().filter(|(_, l)| l.code.contains("unwrap")).map(|(n, _)| n).collect();
        assert_eq!(production, [10], "the test module is no production code, what follows it is");
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_found() {
        let file = SourceFile::parse("x/src/y/mod.rs", "//! Doc.\n#[cfg(test)]\nmod model_test;\nmod real;\n");
        assert_eq!(file.declared_test_modules(), ["x/src/y/model_test"]);
    }
}
