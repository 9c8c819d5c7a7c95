//! Cipher lists in the words of OpenSSL `[conf: ciphers]` `[conf: ciphers_tls1.3]`, and the same names for the log.

use rustls::crypto::ring::cipher_suite as suite;
use rustls::{ProtocolVersion, SupportedCipherSuite};

/// A suite for TLS 1.2. All of them agree on keys by ECDHE.
struct Suite {
    name: &'static str,
    suite: &'static SupportedCipherSuite,
    /// Besides what all have in common: authentication, cipher, and the families of both.
    words: &'static [&'static str],
    strength: u16,
}

/// In the order OpenSSL prefers them.
const TLS12: [Suite; 6] = [
    Suite {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        suite: &suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        words: &["ECDSA", "aECDSA", "AES", "AES256", "AESGCM", "FIPS"],
        strength: 256,
    },
    Suite {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        suite: &suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        words: &["aRSA", "AES", "AES256", "AESGCM", "FIPS"],
        strength: 256,
    },
    Suite {
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        suite: &suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        words: &["ECDSA", "aECDSA", "CHACHA20"],
        strength: 256,
    },
    Suite {
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        suite: &suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        words: &["aRSA", "CHACHA20"],
        strength: 256,
    },
    Suite {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        suite: &suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        words: &["ECDSA", "aECDSA", "AES", "AES128", "AESGCM", "FIPS"],
        strength: 128,
    },
    Suite {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        suite: &suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        words: &["aRSA", "AES", "AES128", "AESGCM", "FIPS"],
        strength: 128,
    },
];

/// Words that mean every suite of [`TLS12`].
const COMMON: [&str; 9] = ["ALL", "DEFAULT", "HIGH", "TLSv1.2", "ECDHE", "EECDH", "kECDHE", "kEECDH", "ECDH"];

/// Words of OpenSSL that mean suites we do not have. Listed so that they can be told from a misspelt one.
const ABSENT: &str = "3DES ADH AECDH AESCCM AESCCM8 ARIA ARIA128 ARIA256 ARIAGCM CAMELLIA CAMELLIA128 CAMELLIA256 \
    COMPLEMENTOFALL COMPLEMENTOFDEFAULT DES DH DHE DHEPSK DSS ECDHEPSK EDH EXP EXPORT EXPORT40 EXPORT56 GOST89MAC GOST94 \
    IDEA LOW MD5 MEDIUM NULL PSK RC2 RC4 RSA RSAPSK SEED SHA SHA1 SHA256 SHA384 SRP SSLv2 SSLv3 TLSv1 TLSv1.0 TLSv1.1 \
    aDH aDSS aECDH aGOST aGOST01 aNULL aPSK aSRP eNULL kDH kDHE kDHEPSK kDHd kDHr kECDH kECDHEPSK kECDHe kECDHr kEDH \
    kGOST kPSK kRSA kRSAPSK kSRP";

/// The syllables of OpenSSL's names of suites, for example `DHE-RSA-AES256-SHA256`.
const SYLLABLES: &str = "128 256 3DES ADH AECDH AES AES128 AES256 ARIA128 ARIA256 CAMELLIA128 CAMELLIA256 CBC CBC3 CCM \
    CCM8 CHACHA20 DES DH DHE DSS ECDH ECDHE ECDSA EDE EDH EXP GCM GOST2001 GOST2012 GOST89 GOST8912 IDEA MD5 NULL POLY1305 \
    PSK RC2 RC4 RSA SEED SHA SHA256 SHA384 SRP";

/// Names of TLS 1.3 that OpenSSL knows, with our suite if there is one, in its order.
static TLS13: [(&str, Option<&SupportedCipherSuite>); 5] = [
    ("TLS_AES_256_GCM_SHA384", Some(&suite::TLS13_AES_256_GCM_SHA384)),
    ("TLS_CHACHA20_POLY1305_SHA256", Some(&suite::TLS13_CHACHA20_POLY1305_SHA256)),
    ("TLS_AES_128_GCM_SHA256", Some(&suite::TLS13_AES_128_GCM_SHA256)),
    ("TLS_AES_128_CCM_SHA256", None),
    ("TLS_AES_128_CCM_8_SHA256", None),
];

/// What is wrong with a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CipherError {
    /// OpenSSL knows no such word either.
    Unknown(String),
    /// Nothing that could be spoken is left.
    Nothing,
}

fn listed(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|listed| listed == word)
}

fn known_name(word: &str) -> bool {
    word.contains('-') && word.split('-').all(|syllable| listed(SYLLABLES, syllable))
}

/// Indices into [`TLS12`] of what a word means; words joined by `+` mean what all of them mean.
fn meant(word: &str) -> Result<Vec<usize>, CipherError> {
    let mut found: Vec<usize> = (0..TLS12.len()).collect();
    for part in word.split('+') {
        let is_name = TLS12.iter().any(|suite| suite.name == part);
        let is_word = TLS12.iter().any(|suite| suite.words.contains(&part));
        if COMMON.contains(&part) {
            continue;
        }
        match part {
            // The order of these two is their own; only who is in matters here.
            "SUITEB128" => found.retain(|at| matches!(at, 0 | 4)),
            "SUITEB192" => found.retain(|at| *at == 0),
            "SUITEB128ONLY" => found.retain(|at| *at == 4),
            _ if is_name => found.retain(|at| TLS12[*at].name == part),
            _ if is_word => found.retain(|at| TLS12[*at].words.contains(&part)),
            _ if listed(ABSENT, part) || known_name(part) => found.clear(),
            _ => return Err(CipherError::Unknown(part.to_owned())),
        }
    }
    Ok(found)
}

/// The suites for TLS 1.2 that a list means, most wanted first.
pub(super) fn tls12(list: Option<&str>) -> Result<Vec<SupportedCipherSuite>, CipherError> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut killed: Vec<usize> = Vec::new();
    // A command needs no separator before it: `DEFAULT@SECLEVEL=2`.
    let list = list.unwrap_or("DEFAULT").replace('@', ":@");
    for word in list.split([':', ',', ' ', ';']).filter(|word| !word.is_empty()) {
        if let Some(command) = word.strip_prefix('@') {
            match command.strip_prefix("SECLEVEL=").map(str::parse::<u8>) {
                // Everything here is fit for level 3; above that, 128 bits are too few.
                Some(Ok(0..=3)) => {}
                Some(Ok(4..=5)) => chosen.retain(|at| TLS12[*at].strength > 128),
                None if command == "STRENGTH" => chosen.sort_by_key(|at| std::cmp::Reverse(TLS12[*at].strength)),
                _ => return Err(CipherError::Unknown(word.to_owned())),
            }
            continue;
        }
        let operation = word.chars().next().filter(|first| "!-+".contains(*first));
        let those = meant(word.get(usize::from(operation.is_some())..).unwrap_or_default())?;
        let moved: Vec<usize> = chosen.iter().copied().filter(|at| those.contains(at)).collect();
        match operation {
            None => chosen.extend(those.iter().filter(|at| !moved.contains(at) && !killed.contains(at))),
            Some(sign) => {
                chosen.retain(|at| !those.contains(at));
                match sign {
                    '+' => chosen.extend(moved),
                    '!' => killed.extend(those),
                    _ => {}
                }
            }
        }
    }
    if chosen.is_empty() {
        return Err(CipherError::Nothing);
    }
    Ok(chosen.iter().map(|at| *TLS12[*at].suite).collect())
}

/// The suites for TLS 1.3 that a list means, most wanted first. Names of TLS 1.2 have no meaning in it, but are no
/// mistake: OpenWrt's script writes the list of `ciphers` here too.
pub(super) fn tls13(list: Option<&str>) -> Result<Vec<SupportedCipherSuite>, CipherError> {
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    let Some(list) = list else { return Ok(TLS13.iter().filter_map(|(_, suite)| suite.copied()).collect()) };
    for word in list.replace('@', ":@").split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        match TLS13.iter().find(|(name, _)| *name == word) {
            Some((_, Some(suite))) if !chosen.contains(suite) => chosen.push(**suite),
            Some(_) => {}
            None if word.starts_with("TLS_") => return Err(CipherError::Unknown(word.to_owned())),
            None if word.starts_with('@') => {}
            None => drop(meant(word.trim_start_matches(['!', '-', '+']))?),
        }
    }
    if chosen.is_empty() { Err(CipherError::Nothing) } else { Ok(chosen) }
}

/// OpenSSL's name of a suite.
pub(super) fn name(suite: SupportedCipherSuite) -> &'static str {
    let tls13 = TLS13.iter().filter_map(|(name, known)| Some((*name, **(known.as_ref()?))));
    let tls12 = TLS12.iter().map(|known| (known.name, *known.suite));
    tls13.chain(tls12).find(|(_, known)| *known == suite).map_or("unknown", |(name, _)| name)
}

/// OpenSSL's name of a version.
pub(super) fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(suites: &[SupportedCipherSuite]) -> String {
        suites
            .iter()
            .map(|suite| name(*suite).replace("ECDHE-", "").replace("ECDSA", "E").replace("RSA", "R"))
            .map(|name| name.replace("-GCM-SHA384", "").replace("-GCM-SHA256", "").replace("-POLY1305", ""))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_list_means_what_openssl_takes_it_for() {
        const ALL: &str = "E-AES256 R-AES256 E-CHACHA20 R-CHACHA20 E-AES128 R-AES128";
        for (list, wanted) in [
            (None, ALL),
            (Some("DEFAULT:!aNULL:!eNULL:!LOW:!EXPORT:!SSLv2:@STRENGTH"), ALL),
            (Some("HIGH:!aNULL:!MD5"), ALL),
            (Some("ALL:@SECLEVEL=2"), ALL),
            (Some("DEFAULT@SECLEVEL=2"), ALL),
            (Some("ECDHE+AESGCM"), "E-AES256 R-AES256 E-AES128 R-AES128"),
            (Some("kEECDH+aRSA+AES128"), "R-AES128"),
            (Some("ECDHE-RSA-AES128-GCM-SHA256"), "R-AES128"),
            (Some("DHE-RSA-AES256-SHA256:ECDHE-RSA-AES256-SHA384:AES256-SHA:ECDHE-RSA-AES256-GCM-SHA384"), "R-AES256"),
            (Some("AES128 CHACHA20,AES128"), "E-AES128 R-AES128 E-CHACHA20 R-CHACHA20"),
            (Some("AES128:CHACHA20:@STRENGTH"), "E-CHACHA20 R-CHACHA20 E-AES128 R-AES128"),
            (Some("AES:+aECDSA"), "R-AES256 R-AES128 E-AES256 E-AES128"),
            (Some("!AES128:ALL"), "E-AES256 R-AES256 E-CHACHA20 R-CHACHA20"),
            (Some("ALL:-AES:AES256"), "E-CHACHA20 R-CHACHA20 E-AES256 R-AES256"),
            (Some("SUITEB128"), "E-AES256 E-AES128"),
            (Some("TLSv1.2:!CHACHA20:@SECLEVEL=5"), "E-AES256 R-AES256"),
        ] {
            assert_eq!(names(&tls12(list).unwrap()), wanted, "{list:?}");
        }
    }

    #[test]
    fn unknown_words_and_lists_without_a_suite_are_errors() {
        for (list, wanted) in [
            ("HIGH:BOGUS", CipherError::Unknown("BOGUS".into())),
            ("ECDHE-RSA-AES512-GCM-SHA256", CipherError::Unknown("ECDHE-RSA-AES512-GCM-SHA256".into())),
            ("HIGH:@SECLEVEL=9", CipherError::Unknown("@SECLEVEL=9".into())),
            ("HIGH:@BOGUS", CipherError::Unknown("@BOGUS".into())),
            ("DHE-RSA-AES256-GCM-SHA384", CipherError::Nothing),
            ("PSK", CipherError::Nothing),
            ("", CipherError::Nothing),
            ("ALL:!ALL", CipherError::Nothing),
        ] {
            assert_eq!(tls12(Some(list)), Err(wanted), "{list}");
        }
        for (list, wanted) in [
            ("TLS_BOGUS", CipherError::Unknown("TLS_BOGUS".into())),
            ("BOGUS", CipherError::Unknown("BOGUS".into())),
            ("TLS_AES_128_CCM_SHA256", CipherError::Nothing),
            ("HIGH:!aNULL:@STRENGTH", CipherError::Nothing),
        ] {
            assert_eq!(tls13(Some(list)), Err(wanted), "{list}");
        }
    }

    #[test]
    fn tls_1_3_keeps_the_order_of_its_list() {
        for (list, wanted) in [
            (None, "TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 TLS_AES_128_GCM_SHA256"),
            (
                Some("TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_256_GCM_SHA384"),
                "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384",
            ),
            (Some("ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256"), "TLS_AES_128_GCM_SHA256"),
        ] {
            let suites = tls13(list).unwrap();
            assert_eq!(suites.iter().map(|suite| name(*suite)).collect::<Vec<_>>().join(" "), wanted);
        }
    }

    #[test]
    fn every_word_is_known_once() {
        for word in ABSENT.split_whitespace() {
            let all = ABSENT.split_whitespace().chain(COMMON);
            assert_eq!(all.filter(|other| *other == word).count(), 1, "{word}");
        }
        assert_eq!(TLS12.len() + 3, rustls::crypto::ring::ALL_CIPHER_SUITES.len(), "each suite has a name");
    }
}
