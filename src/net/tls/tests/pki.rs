//! Certificates as the usual tutorials make them, by the `openssl` command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::net::tls::TlsOptions;

/// Everything that the tests use, made once for each process and removed by the next one.
const SCRIPT: &str = r#"
set -e
umask 077
key() { openssl ecparam -genkey -name prime256v1 -out "$1.key"; }
request() { openssl req -new -key "$1.key" -out "$1.csr" -subj "$2"; }
# As in mosquitto-tls(7): an authority, and leaves of version 1 because no extensions are named.
openssl req -new -x509 -days 3650 -extensions v3_ca -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj "/O=Test/CN=CA"
sign() { openssl x509 -req -in "$1.csr" -CA "${2:-ca}.crt" -CAkey "${2:-ca}.key" -CAcreateserial -out "$1.crt" -days "${4:-30}" $3; }
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >server.ext
printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n' >client.ext
printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' >serveronly.ext
printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n' >ca.ext
key server; request server /CN=localhost; sign server ca "-extfile server.ext"
openssl genrsa -out rsa.key 2048; request rsa /CN=localhost; sign rsa
openssl rsa -in rsa.key -traditional -out rsa1.key
openssl pkcs8 -topk8 -nocrypt -in server.key -out server8.key
openssl pkcs8 -topk8 -in server.key -out locked8.key -passout pass:secret
openssl rsa -in rsa.key -aes128 -traditional -out locked1.key -passout pass:secret
openssl ecparam -genkey -name secp521r1 -out p521.key
for name in good revoked; do
    key $name; request $name "/O=Test/OU=Unit/CN=$name"; sign $name ca "-extfile client.ext"
    cp $name.key $name-v1.key; request $name-v1 "/O=Test/CN=$name-v1"; sign $name-v1
done
key serveronly; request serveronly /CN=serveronly; sign serveronly ca "-extfile serveronly.ext"
key authority; request authority /CN=authority; sign authority ca "-extfile ca.ext"
# An authority under the first one, and leaves of it.
key middle; request middle "/O=Test/CN=Middle"; sign middle ca "-extfile ca.ext" 3650
key below; request below /CN=below; sign below middle "-extfile client.ext"
key below-v1; request below-v1 /CN=below-v1; sign below-v1 middle
key leaf; request leaf /CN=localhost; sign leaf middle "-extfile server.ext"
# Somebody else's authority of the same name, and one that ends soon.
openssl req -new -x509 -days 3650 -newkey rsa:2048 -nodes -keyout other.key -out other.crt -subj "/O=Test/CN=CA"
key stranger; request stranger /CN=stranger; sign stranger other "-extfile client.ext"
cp stranger.key stranger-v1.key; request stranger-v1 /CN=stranger; sign stranger-v1 other
openssl req -new -x509 -days 5 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout short.key -out short.crt -subj "/CN=Short"
key outlives; request outlives /CN=outlives; sign outlives short "-extfile client.ext"
# One that signed itself, and an authority of version 1.
openssl req -new -x509 -days 30 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout self.key -out self.crt -subj "/CN=self"
key old; request old /CN=Old; openssl x509 -req -in old.csr -signkey old.key -out old.crt -days 30
key ofold; request ofold /CN=ofold; sign ofold old "-extfile client.ext"
# Revocation.
cat >ca.conf <<END
[ca]
default_ca = it
[it]
database = index.txt
crlnumber = crlnumber
default_md = sha256
default_crl_days = 10
END
: >index.txt; echo 01 >crlnumber
for name in revoked revoked-v1; do openssl ca -config ca.conf -cert ca.crt -keyfile ca.key -revoke $name.crt; done
openssl ca -config ca.conf -cert ca.crt -keyfile ca.key -gencrl -out crl.pem
: >index.txt; openssl ca -config ca.conf -cert middle.crt -keyfile middle.key -gencrl -out middle.pem
: >index.txt; openssl ca -config ca.conf -cert other.crt -keyfile other.key -gencrl -out forged.pem
# Files of several, and a directory of hashed names.
cat leaf.crt middle.crt >chain.crt
cat ca.crt middle.crt >both.crt
mkdir hashed; cp both.crt hashed/both.pem; cp middle.crt ca.crt hashed; echo note >hashed/README; openssl rehash hashed
echo nothing >empty.pem
printf -- '-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n' >broken.pem
"#;

/// The directory, or `None` when there is no `openssl`: then the test says so and ends.
pub(super) fn directory() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
            return None;
        }
        for old in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
            let name = old.file_name().into_string().unwrap_or_default();
            let process = name.strip_prefix("mosquitto-tls-").filter(|id| !Path::new("/proc").join(id).exists());
            if process.is_some() {
                let _removed_by_another = fs::remove_dir_all(old.path());
            }
        }
        let directory = std::env::temp_dir().join(format!("mosquitto-tls-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let made = Command::new("sh").args(["-c", SCRIPT]).current_dir(&directory).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(directory)
    });
    if made.is_none() {
        println!("skipped: there is no openssl command");
    }
    made.as_deref()
}

/// Options with the usual server certificate.
pub(super) fn options(directory: &Path) -> TlsOptions {
    TlsOptions {
        certfile: Some(directory.join("server.crt")),
        keyfile: Some(directory.join("server.key")),
        ..TlsOptions::default()
    }
}

/// The same with client certificates from the usual authority.
pub(super) fn mutual(directory: &Path) -> TlsOptions {
    TlsOptions { cafile: Some(directory.join("ca.crt")), require_certificate: true, ..options(directory) }
}
