//! Circles among files: which file uses which, and the groups of files that all lead to one another.

use std::collections::{BTreeMap, BTreeSet};

/// The source files by module path (`session::http::start`; `lib` is the empty path), without tests.
pub(crate) type Files = BTreeMap<String, String>;

/// The groups of two or more files, sorted, in which each file uses every other one, directly or through others.
pub(crate) fn circles(files: &Files) -> Vec<Vec<String>> {
    let uses = uses(files);
    let reach: BTreeMap<&String, BTreeSet<&String>> =
        files.keys().map(|from| (from, reachable(from, &uses))).collect();
    let mut found = BTreeSet::new();
    for (from, reached) in &reach {
        if reached.contains(from) {
            let group = reached.iter().filter(|other| reach[**other].contains(from));
            found.insert(group.map(|other| (*other).clone()).collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

fn reachable<'a>(from: &'a String, uses: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a String> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(file) = left.pop() {
        for next in uses.get(file).into_iter().flatten() {
            if reached.insert(next) {
                left.push(next);
            }
        }
    }
    reached
}

/// Which file uses which. A name that a `mod.rs` only hands on (`pub use`) is the file's that defines it.
fn uses(files: &Files) -> BTreeMap<String, BTreeSet<String>> {
    let statements: BTreeMap<&String, Vec<Statement>> =
        files.iter().map(|(module, text)| (module, statements(text))).collect();
    let mut handed_on: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (module, list) in &statements {
        for statement in list.iter().filter(|statement| statement.public) {
            if let Some(path) = absolute(&statement.path, module, files) {
                handed_on.insert(((*module).clone(), statement.name.clone()), path);
            }
        }
    }
    let mut all = BTreeMap::new();
    for (module, list) in &statements {
        let own = list.iter().filter(|statement| !statement.public);
        let targets = own
            .filter_map(|statement| absolute(&statement.path, module, files))
            .map(|path| file_of(&path, files, &handed_on))
            .filter(|file| file != *module)
            .collect();
        all.insert((*module).clone(), targets);
    }
    all
}

/// One name that a file uses from somewhere.
struct Statement {
    path: Vec<String>,
    /// The name under which it is known here.
    name: String,
    public: bool,
}

/// A path from the crate's root, if it leads into the crate.
fn absolute(path: &[String], module: &str, files: &Files) -> Option<Vec<String>> {
    let mut here: Vec<String> =
        module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => {
            here.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                here.pop()?;
                rest = &rest[1..];
            }
        }
        first => {
            let child = [&here[..], &[first.to_owned()]].concat().join("::");
            files.contains_key(&child).then_some(())?;
        }
    }
    here.extend(rest.iter().cloned());
    Some(here)
}

/// The file in which the last name of a path is defined.
fn file_of(path: &[String], files: &Files, handed_on: &BTreeMap<(String, String), Vec<String>>) -> String {
    let mut at = path.len();
    while at > 0 && !files.contains_key(&path[..at].join("::")) {
        at -= 1;
    }
    let module = path[..at].join("::");
    match path.get(at).and_then(|name| handed_on.get(&(module.clone(), name.clone()))) {
        Some(target) if target.as_slice() != path => {
            file_of(&[&target[..], &path[at + 1..]].concat(), files, handed_on)
        }
        _ => module,
    }
}

/// Every path of a source text that begins with `crate`, `super` or `self`, and every `use`.
fn statements(text: &str) -> Vec<Statement> {
    let code: String = text
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .flat_map(|line| [line, "\n"])
        .collect();
    let (mut found, mut rest) = (Vec::new(), code.as_str());
    while let Some(at) = next_use(rest) {
        let (before, statement) = rest.split_at(at);
        inline(before, &mut found);
        let end = statement.find(';').unwrap_or(statement.len());
        let (head, tree) = statement[..end].split_once("use ").unwrap_or_default();
        let mut tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        tree = tree.replace("{ ", "{").replace(" }", "}");
        expand(&tree, &[], !head.trim().is_empty(), &mut found);
        rest = &statement[end..];
    }
    inline(rest, &mut found);
    found
}

/// Where the next `use` begins, its visibility included.
fn next_use(text: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let code = line.trim_start();
        let rest = match code.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or(rest, |(_, rest)| rest),
            Some(rest) => rest.trim_start(),
            None => code,
        };
        if rest.starts_with("use ") {
            return Some(at + line.len() - code.len());
        }
        at += line.len();
    }
    None
}

/// `a::{b, c::D as E}` as its single paths.
fn expand(tree: &str, before: &[String], public: bool, into: &mut Vec<Statement>) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let head = head.split("::").filter(|part| !part.is_empty()).map(str::to_owned);
        let before: Vec<String> = before.iter().cloned().chain(head).collect();
        let (mut depth, mut start) = (0, 0);
        let group = group.strip_suffix('}').unwrap_or(group);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&group[start..at], &before, public, into);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return expand(&group[start..], &before, public, into);
    }
    let (path, name) = tree.split_once(" as ").unwrap_or((tree, tree));
    let parts = path.split("::").filter(|part| !part.is_empty()).map(str::to_owned);
    let mut path: Vec<String> = before.iter().cloned().chain(parts).collect();
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name = name.rsplit("::").next().unwrap_or(name).to_owned();
    if !tree.is_empty() {
        into.push(Statement { path, name, public });
    }
}

/// Paths outside `use`: `crate::a::b`, `super::c`.
fn inline(code: &str, into: &mut Vec<Statement>) {
    for first in ["crate::", "super::"] {
        for (at, _) in code.match_indices(first) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
                continue;
            }
            let path = code[at..].split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
            let path: Vec<String> = path
                .into_iter()
                .next()
                .unwrap_or_default()
                .split("::")
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect();
            // `pub(in super::x)` and the like end with a module, which is no use of it.
            if !code[..at].ends_with("(in ") {
                into.push(Statement { path, name: String::new(), public: false });
            }
        }
    }
}
