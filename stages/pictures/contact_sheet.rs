use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{self, Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::save_png::write_png;
use crate::prelude::*;
use crate::product::{Overwrite, StepProduct};
use crate::stages::frames::Picture;

/// What a segment of a URL escapes.
const IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Shows all pictures of a run on one HTML page.
///
/// Takes 8-bit gray pictures. The page includes the thumbnails, so it needs no other file. They
/// are sorted by name, whatever the order of arrival, and link to the saved file if there is one.
/// The page appears whole at the end of the run, or not at all; it replaces one that an earlier
/// run of this pipeline made, but no other file (see "overwrite"). Memory does not grow with the
/// size of the pictures: a temporary file holds the thumbnails until then.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContactSheet {
    /// The page to write; its directory is made if it is missing.
    #[serde(default = "default_file")]
    #[schemars(extend("writes" = "file"))]
    file: PathBuf,
    /// What happens to an older file of that name.
    #[serde(default)]
    overwrite: Overwrite,
    /// The heading of the page.
    #[serde(default = "default_title")]
    title: String,
    /// The longer side of a thumbnail; smaller pictures are shown as they are.
    #[serde(default = "default_thumbnail")]
    #[schemars(range(min = 16, max = 4096), extend("unit" = "pixel"))]
    thumbnail: u32,
    /// The temporary file that holds the thumbnails.
    #[serde(skip)]
    spool: Option<File>,
    #[serde(skip)]
    entries: Vec<Entry>,
    #[serde(skip)]
    product: StepProduct,
}

fn default_file() -> PathBuf {
    "contact-sheet.html".into()
}

fn default_title() -> String {
    "Contact sheet".into()
}

fn default_thumbnail() -> u32 {
    256
}

/// One picture; ordered by what the page shows.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: String,
    source: String,
    file: Option<String>,
    size: (u32, u32),
    shown: (u32, u32),
    /// The position of the thumbnail's PNG in the spool.
    start: u64,
    length: u64,
}

impl Consumer for ContactSheet {
    type In = Picture;
    const SINGLETON: bool = true;
    const STATEFUL: bool = true;

    fn validate(&self) -> Result<()> {
        if self.thumbnail == 0 {
            return Err(Failure::permanent("\"thumbnail\" is 0 pixels, expected 16 or more"));
        }
        Ok(())
    }

    fn init(&mut self, context: &Context) -> Result<()> {
        self.product = StepProduct::open(&self.file, self.overwrite, context)?;
        self.spool = Some(tempfile::tempfile().context("no temporary file for thumbnails")?);
        Ok(())
    }

    fn run(&mut self, picture: Picture) -> Result<()> {
        picture.size()?;
        let (pixels, width, height) = thumbnail(&picture, self.thumbnail);
        let mut png = Vec::new();
        write_png(&mut png, &pixels, width, height)?;
        // Overwrites from the end of the last entry: a failed attempt may have left a part.
        let start = self.entries.last().map_or(0, |entry| entry.start + entry.length);
        let spool = self.spool.as_mut().ok_or_else(not_begun)?;
        spool.seek(SeekFrom::Start(start))?;
        spool.write_all(&png)?;
        self.entries.push(Entry {
            name: picture.name,
            source: picture.source,
            file: picture.file,
            size: (picture.width, picture.height),
            shown: (width, height),
            start,
            length: png.len() as u64,
        });
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let mut spool = self.spool.take().ok_or_else(not_begun)?;
        self.entries.sort();
        let directory = path::absolute(directory_of(&self.file))?;
        let written = self.product.write_whole(|page| {
            let head = head(&self.title, self.entries.len(), self.thumbnail, self.product.mark());
            write!(page, "{head}")?;
            for entry in &self.entries {
                let mut png = vec![0; entry.length as usize];
                spool.seek(SeekFrom::Start(entry.start))?;
                spool.read_exact(&mut png)?;
                write_figure(page, entry, &png, &directory)?;
            }
            Ok(page.write_all(b"</main>\n</body>\n</html>\n")?)
        });
        written.map(drop)
    }
}

fn not_begun() -> Failure {
    Failure::permanent("ContactSheet was used without init or after finish")
}

fn directory_of(file: &Path) -> &Path {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Scales the picture down; each pixel is the mean of those that it covers.
fn thumbnail(picture: &Picture, longest: u32) -> (Vec<u8>, u32, u32) {
    let (width, height) = (picture.width, picture.height);
    let side = width.max(height);
    if side <= longest {
        return (picture.pixels.to_vec(), width, height);
    }
    let scaled = |length: u32| {
        let exact = u64::from(length) * u64::from(longest) / u64::from(side);
        u32::try_from(exact.max(1)).unwrap_or(longest)
    };
    let (columns, rows) = (scaled(width), scaled(height));
    let mut pixels = Vec::with_capacity(columns as usize * rows as usize);
    for row in 0..rows {
        let lines = span(row, rows, height);
        for column in 0..columns {
            pixels.push(mean(picture, span(column, columns, width), lines.clone()));
        }
    }
    (pixels, columns, rows)
}

/// The range of `full` pixels that pixel `index` of `parts` covers: at least one.
fn span(index: u32, parts: u32, full: u32) -> std::ops::Range<usize> {
    let at = |index: u32| (u64::from(index) * u64::from(full) / u64::from(parts)) as usize;
    at(index)..at(index + 1).max(at(index) + 1)
}

fn mean(picture: &Picture, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> u8 {
    let (mut sum, mut count) = (0_u64, 0_u64);
    for row in rows {
        let start = row * picture.width as usize;
        let line = picture.pixels.get(start + columns.start..start + columns.end);
        for pixel in line.unwrap_or_default() {
            sum += u64::from(*pixel);
            count += 1;
        }
    }
    u8::try_from((sum + count / 2) / count.max(1)).unwrap_or(u8::MAX)
}

fn head(title: &str, count: usize, thumbnail: u32, mark: &str) -> String {
    let title = escape(title);
    let pictures = if count == 1 { "1 picture".to_owned() } else { format!("{count} pictures") };
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{mark}">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --page: #fafafa; --text: #1a1a1a; --quiet: #595959; --line: #d4d4d4; --link: #0b57d0; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #141414; --text: #ececec; --quiet: #a6a6a6; --line: #3a3a3a; --link: #8ab4f8; }}
}}
body {{ margin: 0 auto; max-width: 100rem; padding: 1.5rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ margin: 0; font-size: 1.5rem; }}
header p, figcaption span {{ margin: 0; color: var(--quiet); font-size: .875rem; }}
main {{ display: grid; gap: 1.25rem; margin-top: 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, {thumbnail}px), 1fr)); }}
figure {{ margin: 0; min-width: 0; }}
img {{ display: block; max-width: 100%; height: auto; border: 1px solid var(--line);
  box-sizing: border-box; }}
figcaption {{ margin-top: .375rem; overflow-wrap: anywhere; }}
figcaption span {{ display: block; }}
a {{ color: var(--link); }}
a:focus-visible {{ outline: 2px solid var(--link); outline-offset: 2px; }}
</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{pictures}</p>
</header>
<main>
"#
    )
}

fn write_figure(page: &mut impl Write, entry: &Entry, png: &[u8], directory: &Path) -> Result<()> {
    let name = escape(&entry.name);
    let link = entry.file.as_deref().map(|file| link(&path_of_name(file), directory));
    let (open, close) = match &link {
        Some(link) => (format!("<a href=\"{}\">", escape(link)), "</a>"),
        None => (String::new(), ""),
    };
    let ((width, height), (columns, rows)) = (entry.shown, entry.size);
    writeln!(
        page,
        "<figure>\n{open}<img src=\"data:image/png;base64,{}\" width=\"{width}\" \
         height=\"{height}\" loading=\"lazy\" alt=\"{name}\">{close}\n\
         <figcaption>{open}{name}{close}<span>{columns} × {rows} px</span>\
         <span>{}</span></figcaption>\n</figure>",
        STANDARD.encode(png),
        escape(&entry.source),
    )?;
    Ok(())
}

/// The relative URL from the page's directory to a file.
fn link(file: &Path, directory: &Path) -> String {
    let file = path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let shared = file.components().zip(directory.components()).take_while(|(a, b)| a == b).count();
    let up = directory.components().skip(shared).map(|_| "..".to_owned());
    let down = file.components().skip(shared).filter_map(|part| match part {
        Component::Normal(name) => {
            Some(percent_encode(name.as_encoded_bytes(), IN_SEGMENT).to_string())
        }
        _ => None,
    });
    let parts: Vec<String> = up.chain(down).collect();
    parts.join("/")
}

/// Escapes text for HTML, also inside quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{consume, from_params};

    fn picture(name: &str, width: u32, height: u32) -> Picture {
        let pixels = (0..width * height).map(|n| (n % 251) as u8).collect::<Vec<_>>();
        let (name, source) = (name.to_owned(), format!("raw/{name}.fits"));
        Picture { name, source, width, height, pixels: pixels.into(), file: None }
    }

    fn page(pictures: Vec<Picture>) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("out/sheet.html");
        let stage: ContactSheet =
            from_params(json!({ "file": file, "title": "Night <7>", "thumbnail": 32 })).unwrap();
        consume(stage, pictures).unwrap();
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn the_page_does_not_depend_on_the_order_of_arrival() {
        let names = ["b", "a", "c"];
        let forth = page(names.iter().map(|name| picture(name, 64, 48)).collect());
        let back = page(names.iter().rev().map(|name| picture(name, 64, 48)).collect());
        assert_eq!(forth, back);
        let at = |name: &str| forth.find(&format!("alt=\"{name}\"")).unwrap();
        assert!(at("a") < at("b") && at("b") < at("c"));
        assert!(forth.contains("3 pictures"));
    }

    #[test]
    fn names_and_titles_are_text_not_markup() {
        let html = page(vec![picture("<script>\"x\"&'", 4, 4)]);
        assert!(!html.contains("<script>"));
        assert!(html.contains("&lt;script&gt;&quot;x&quot;&amp;&#39;"));
        assert!(html.contains("<title>Night &lt;7&gt;</title>"));
    }

    #[test]
    fn a_run_without_pictures_has_an_empty_page() {
        assert!(page(Vec::new()).contains("0 pictures"));
    }

    #[test]
    fn thumbnails_keep_shape_and_brightness() {
        let mut wide = picture("x", 100, 10);
        wide.pixels = vec![77; 1000].into();
        let (pixels, width, height) = thumbnail(&wide, 25);
        assert_eq!((width, height), (25, 2));
        assert_eq!(pixels, [77; 50]);
        let small = picture("x", 10, 10);
        assert_eq!(thumbnail(&small, 25).0, small.pixels.to_vec());
        assert_eq!(thumbnail(&picture("x", 1000, 1), 16).1, 16);
    }

    #[test]
    fn links_lead_from_the_page_to_the_file() {
        let from = |file: &str| link(Path::new(file), Path::new("/data/out"));
        assert_eq!(from("/data/out/png/a b.png"), "png/a%20b.png");
        assert_eq!(from("/data/png/a.png"), "../png/a.png");
        assert_eq!(from("/png/ä.png"), "../../png/%C3%A4.png");
    }
}
