//! Keywords whose values the FITS standard (4.0, tables C.1 and C.2 and section
//! 8) wants to be of one type.

/// The type of a reserved keyword's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Real,
    Integer,
    Text,
}

const REALS: &[&str] = &[
    "EQUINOX", "EPOCH", "MJD-OBS", "MJD-AVG", "MJD-BEG", "MJD-END", "MJDREF", "LONPOLE", "LATPOLE",
    "RESTFRQ", "RESTFREQ", "RESTWAV", "VELANGL", "VELOSYS", "ZSOURCE", "OBSGEO-X", "OBSGEO-Y",
    "OBSGEO-Z", "XPOSURE", "TELAPSE", "TSTART", "TSTOP",
];
/// With the numbers of axes and the letter of an alternative description.
const REALS_NUMBERED: &[&str] =
    &["CRPIX", "CRVAL", "CDELT", "CROTA", "CRDER", "CSYER", "CD", "PC", "PV"];

const INTEGERS: &[&str] = &["WCSAXES", "EXTVER", "EXTLEVEL", "VELREF"];

const TEXTS: &[&str] = &[
    "DATE", "DATE-OBS", "DATE-BEG", "DATE-AVG", "DATE-END", "ORIGIN", "AUTHOR", "REFERENC",
    "INSTRUME", "TELESCOP", "OBSERVER", "OBJECT", "EXTNAME", "BUNIT", "RADESYS", "RADECSYS",
    "TIMESYS", "SPECSYS", "SSYSOBS", "SSYSSRC", "WCSNAME",
];
const TEXTS_NUMBERED: &[&str] = &["CTYPE", "CUNIT", "CNAME", "PS"];

/// The type that the value of `keyword` must have, if it is reserved.
pub(super) fn kind_of(keyword: &str) -> Option<Kind> {
    let plain = |names: &[&str]| names.contains(&keyword);
    let numbered = |names: &[&str]| names.iter().any(|name| is_numbered(keyword, name));
    if plain(REALS) || numbered(REALS_NUMBERED) {
        Some(Kind::Real)
    } else if plain(INTEGERS) {
        Some(Kind::Integer)
    } else if plain(TEXTS) || numbered(TEXTS_NUMBERED) {
        Some(Kind::Text)
    } else {
        None
    }
}

/// `CRVAL1`, `CD1_2`, `CTYPE2A`: the name, numbers, perhaps a letter.
fn is_numbered(keyword: &str, name: &str) -> bool {
    let Some(rest) = keyword.strip_prefix(name) else { return false };
    let numbers = rest.strip_suffix(|c: char| c.is_ascii_uppercase()).unwrap_or(rest);
    !numbers.is_empty()
        && numbers.split('_').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_keywords_have_their_type() {
        assert_eq!(kind_of("MJD-OBS"), Some(Kind::Real));
        assert_eq!(kind_of("CRVAL1A"), Some(Kind::Real));
        assert_eq!(kind_of("CD1_2"), Some(Kind::Real));
        assert_eq!(kind_of("WCSAXES"), Some(Kind::Integer));
        assert_eq!(kind_of("CTYPE2"), Some(Kind::Text));
        for keyword in ["CDS", "PC_", "CRVAL", "EXPTIME", "PVT"] {
            assert_eq!(kind_of(keyword), None, "{keyword}");
        }
    }
}
