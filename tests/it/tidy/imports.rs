//! No files of the library import each other in a circle.
//!
//! A module may import its own submodules, and a submodule its parent: the test ignores the
//! first of these arrows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::program::package;

/// The path of a module, such as `["router", "queue"]`.
type Module = Vec<String>;

/// Files that still import each other.
const EXCUSED: [&str; 0] = [];

struct Library {
    /// Each module's code, without comments and tests.
    modules: BTreeMap<Module, String>,
    /// What a module makes public under its own name, with the path that it has elsewhere.
    exports: BTreeMap<(Module, String), Module>,
}

impl Library {
    fn read() -> Self {
        let mut modules = BTreeMap::new();
        for folder in ["src", "stages"] {
            for entry in walkdir::WalkDir::new(package().join(folder)) {
                let path = entry.unwrap().into_path();
                if path.extension().is_some_and(|extension| extension == "rs") {
                    let inner = path.strip_prefix(package()).unwrap().with_extension("");
                    let mut module: Module =
                        inner.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                    if module[0] == "src" {
                        module.remove(0);
                    }
                    if module.last().is_some_and(|last| last == "mod") {
                        module.pop();
                    }
                    modules.insert(module, code(&fs::read_to_string(&path).unwrap()));
                }
            }
        }
        assert!(modules.len() > 100, "the sources were not found");
        let mut library = Self { modules, exports: BTreeMap::new() };
        for (module, code) in library.modules.clone() {
            for (is_public, path) in used(&code) {
                let (true, Some(path)) = (is_public, library.absolute(&module, &path)) else {
                    continue;
                };
                let name = path.last().unwrap().clone();
                library.exports.insert((module.clone(), name), path);
            }
        }
        library
    }

    /// The path from the root of the crate; none if it begins in another crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let mut at = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {}
            first => {
                let child = [module.clone(), vec![first.to_owned()]].concat();
                self.modules.contains_key(&child).then_some(())?;
            }
        }
        while rest.first().is_some_and(|part| part == "super") {
            at.pop();
            rest = &rest[1..];
        }
        at.extend_from_slice(rest);
        Some(at)
    }

    /// The module in which the last name of `path` stands.
    fn home(&self, path: &Module) -> Option<Module> {
        let known = (1..=path.len()).rev().find(|n| self.modules.contains_key(&path[..*n]))?;
        let module = path[..known].to_vec();
        let name = path.get(known);
        let elsewhere = name.and_then(|name| self.exports.get(&(module.clone(), name.clone())));
        match elsewhere {
            Some(target) if target != path => self.home(target),
            _ => Some(module),
        }
    }

    /// The modules that each module imports, without its own submodules.
    fn imports(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let mut imports = BTreeMap::new();
        for (module, code) in &self.modules {
            let homes = used(code)
                .into_iter()
                .filter(|(is_public, _)| !is_public)
                .filter_map(|(_, path)| self.home(&self.absolute(module, &path)?))
                .filter(|home| !home.starts_with(module))
                .collect();
            imports.insert(module.clone(), homes);
        }
        imports
    }
}

/// The text without comments and without what only tests use.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    product
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Each imported path with whether it is made public, and each path that code spells out.
fn used(code: &str) -> Vec<(bool, Vec<String>)> {
    let mut found = Vec::new();
    let mut other = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let line = rest[..at].rsplit('\n').next().unwrap().trim();
        let end = rest[at..].find(';').map_or(rest.len(), |end| at + end);
        let is_public = line == "pub" || line.starts_with("pub(") && line.ends_with(')');
        if line.is_empty() || is_public {
            let mut paths = Vec::new();
            leaves(&rest[at + 4..end], &[], &mut paths);
            found.extend(paths.into_iter().map(|path| (is_public, path)));
            other += &rest[..at];
            rest = &rest[end..];
        } else {
            other += &rest[..at + 4];
            rest = &rest[at + 4..];
        }
    }
    other += rest;
    for start in ["crate::", "super::"] {
        for (at, _) in other.match_indices(start) {
            if !other[..at].ends_with(|c: char| c == ':' || c.is_alphanumeric()) {
                let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
                let path = other[at..].split(|c| !is_path(c)).next().unwrap();
                found.push((false, segments(path)));
            }
        }
    }
    found
}

fn segments(path: &str) -> Vec<String> {
    let path = path.split(" as ").next().unwrap();
    path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The paths of a tree such as `a::{b, c::{d, e}}`.
fn leaves(tree: &str, before: &[String], found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let mut path = [before, &segments(tree)].concat();
        path.retain(|part| part != "*");
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        found.push(path);
        return;
    };
    let before = [before, &segments(&tree[..open])].concat();
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    leaves(&inner[start..at], &before, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The modules that can be reached from `from`, one import or more away.
fn reached<'i>(
    imports: &'i BTreeMap<Module, BTreeSet<Module>>,
    from: &Module,
) -> BTreeSet<&'i Module> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<&Module> = imports[from].iter().collect();
    while let Some(module) = waiting.pop() {
        if found.insert(module) {
            waiting.extend(&imports[module]);
        }
    }
    found
}

#[test]
fn no_files_import_each_other() {
    let imports = Library::read().imports();
    let in_circle: BTreeMap<&Module, String> = imports
        .iter()
        .filter(|(module, _)| reached(&imports, module).contains(module))
        .map(|(module, homes)| {
            let back = homes.iter().filter(|home| reached(&imports, home).contains(module));
            let back: Vec<String> = back.map(|home| home.join("::")).collect();
            (module, format!("{} -> {}", module.join("::"), back.join(", ")))
        })
        .collect();
    let unexcused: Vec<&str> = in_circle
        .iter()
        .filter(|(module, _)| !EXCUSED.contains(&module.join("::").as_str()))
        .map(|(_, line)| line.as_str())
        .collect();
    assert!(unexcused.is_empty(), "circles:\n{}", unexcused.join("\n"));
    for excused in EXCUSED {
        let is_in_one = in_circle.keys().any(|module| module.join("::") == excused);
        assert!(is_in_one, "{excused} is in no circle any more");
    }
}

#[test]
fn trees_of_imports_are_read() {
    let code = "use std::fs;\npub(crate) use self::a::B;\nuse crate::x::{self, y::{Z as W, V}, u};\n\
                fn f() { crate::k::l(super::m); }";
    let found: Vec<String> = used(code)
        .into_iter()
        .map(|(is_public, path)| format!("{}{}", if is_public { "+" } else { "" }, path.join("/")))
        .collect();
    let expected =
        ["std/fs", "+self/a/B", "crate/x", "crate/x/y/Z", "crate/x/y/V", "crate/x/u", "crate/k/l"];
    assert_eq!(found, [&expected[..], &["super/m"]].concat());
}
