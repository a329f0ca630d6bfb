//! The page, which is part of the program.

/// A file of the page: its media type and its text.
pub(super) fn file(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "index.html" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "style.css" => ("text/css; charset=utf-8", include_str!("page/style.css")),
        "dashboard.js" => (JAVASCRIPT, include_str!("page/dashboard.js")),
        "parts.js" => (JAVASCRIPT, include_str!("page/parts.js")),
        "icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        "layout.js" => (JAVASCRIPT, include_str!("page/layout.js")),
        "tables.js" => (JAVASCRIPT, include_str!("page/tables.js")),
        "graph.js" => (JAVASCRIPT, include_str!("page/graph.js")),
        _ => return None,
    })
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
