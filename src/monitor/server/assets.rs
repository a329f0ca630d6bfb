//! The files of the dashboard, which are part of the program.

/// The media type and the text of a file.
pub(crate) fn file(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "index.html" => ("text/html; charset=utf-8", include_str!("../dashboard/index.html")),
        "style.css" => ("text/css; charset=utf-8", include_str!("../dashboard/style.css")),
        "dashboard.js" => (JAVASCRIPT, include_str!("../dashboard/dashboard.js")),
        "parts.js" => (JAVASCRIPT, include_str!("../dashboard/parts.js")),
        "icon.svg" => ("image/svg+xml", include_str!("../dashboard/icon.svg")),
        "layout.js" => (JAVASCRIPT, include_str!("../dashboard/layout.js")),
        "tables.js" => (JAVASCRIPT, include_str!("../dashboard/tables.js")),
        "graph.js" => (JAVASCRIPT, include_str!("../dashboard/graph.js")),
        _ => return None,
    })
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
