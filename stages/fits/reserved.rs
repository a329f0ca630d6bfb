//! Keywords whose values have one type in the FITS standard (4.0, tables C.1 and C.2 and
//! section 8).

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
/// Keywords of reals that end with the number of an axis, and perhaps with the letter of an
/// alternative description.
const REALS_NUMBERED: &[&str] = &["CRPIX", "CRVAL", "CDELT", "CROTA", "CRDER", "CSYER"];
/// Keywords of reals that end with two numbers, as `1_2`, and perhaps with such a letter.
const REALS_OF_TWO: &[&str] = &["CD", "PC", "PV"];

const INTEGERS: &[&str] = &["WCSAXES", "EXTVER", "EXTLEVEL", "VELREF"];

const TEXTS: &[&str] = &[
    "DATE", "DATE-OBS", "DATE-BEG", "DATE-AVG", "DATE-END", "ORIGIN", "AUTHOR", "REFERENC",
    "INSTRUME", "TELESCOP", "OBSERVER", "OBJECT", "EXTNAME", "BUNIT", "RADESYS", "RADECSYS",
    "TIMESYS", "SPECSYS", "SSYSOBS", "SSYSSRC", "WCSNAME",
];
const TEXTS_NUMBERED: &[&str] = &["CTYPE", "CUNIT", "CNAME"];
const TEXTS_OF_TWO: &[&str] = &["PS"];

/// Returns the type that the value of `keyword` must have, if it is reserved.
pub(super) fn kind_of(keyword: &str) -> Option<Kind> {
    let plain = |names: &[&str]| names.contains(&keyword);
    let numbered = |names: &[&str], numbers: usize| {
        names.iter().any(|name| keyword.strip_prefix(name).and_then(count_numbers) == Some(numbers))
    };
    if plain(REALS) || numbered(REALS_NUMBERED, 1) || numbered(REALS_OF_TWO, 2) {
        Some(Kind::Real)
    } else if plain(INTEGERS) {
        Some(Kind::Integer)
    } else if plain(TEXTS) || numbered(TEXTS_NUMBERED, 1) || numbered(TEXTS_OF_TWO, 2) {
        Some(Kind::Text)
    } else {
        None
    }
}

/// Counts the numbers in what follows a name: one in `1` and `2A`, two in `1_2`.
fn count_numbers(rest: &str) -> Option<usize> {
    let numbers = rest.strip_suffix(|c: char| c.is_ascii_uppercase()).unwrap_or(rest);
    let is_number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    numbers.split('_').all(is_number).then(|| numbers.split('_').count())
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
        for keyword in ["CDS", "PC_", "CRVAL", "EXPTIME", "PVT", "CD1", "PC1", "PV12", "CRPIX1_2"] {
            assert_eq!(kind_of(keyword), None, "{keyword}");
        }
    }
}
