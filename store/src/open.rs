//! From a URL and options to a backend: which store, which credentials, which folder in it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use crate::error::StoreError;
use crate::local::DurableFiles;

type Backend = (Arc<dyn ObjectStore>, Path);

const FORMS: &str = "use file:///absolute/path, file://./relative/path, memory:///, s3://bucket/prefix, gs://bucket/prefix \
                     or az://container/prefix";

/// Opens the backend of `url`; options that belong to other stores are passed over.
pub(crate) fn backend(url: &str, options: impl Iterator<Item = (String, String)>) -> Result<Backend, StoreError> {
    if let Some(rest) = url.strip_prefix("file:") {
        return local(url, rest);
    }
    let parsed = Url::parse(url).map_err(|e| invalid(url, &e.to_string(), FORMS))?;
    let (scheme, prefix) = ObjectStoreScheme::parse(&parsed).map_err(|e| invalid(url, &e.to_string(), FORMS))?;
    let options: Vec<_> = options.map(|(k, v)| (k.to_ascii_lowercase(), v)).collect();
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::Memory => Arc::new(InMemory::new()),
        ObjectStoreScheme::AmazonS3 => Arc::new(s3(url, &options)?),
        ObjectStoreScheme::GoogleCloudStorage => Arc::new(gcs(url, &options)?),
        ObjectStoreScheme::MicrosoftAzure => Arc::new(azure(url, &options)?),
        _ => return Err(invalid(url, "the scheme is not one of a store", FORMS)),
    };
    Ok((store, prefix))
}

/// Whether `url` and options could be opened; touches nothing.
pub(crate) fn check(url: &str, options: impl Iterator<Item = (String, String)>) -> Result<(), StoreError> {
    match url.strip_prefix("file:") {
        Some(rest) => folder(url, rest).map(|_| ()),
        None => backend(url, options).map(|_| ()),
    }
}

fn folder(url: &str, rest: &str) -> Result<PathBuf, StoreError> {
    local_root(rest).ok_or_else(|| {
        let found = "after file:// there is neither an absolute path (/…) nor a relative one (./… or ../…)";
        invalid(url, found, FORMS)
    })
}

fn local(url: &str, rest: &str) -> Result<Backend, StoreError> {
    let root = folder(url, rest)?;
    let files = DurableFiles::open(&root).map_err(|e| StoreError::classify(url, 1, e))?;
    Ok((Arc::new(files), Path::default()))
}

/// `///abs`, `/abs`, `//./rel`, `./rel`, `//../rel`, `../rel`; percent escapes are decoded. Relative paths start at
/// the working directory.
fn local_root(rest: &str) -> Option<PathBuf> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.starts_with('/') {
        return Url::parse("file:///").ok()?.join(path).ok()?.to_file_path().ok();
    }
    let relative = path == "." || path == ".." || path.starts_with("./") || path.starts_with("../");
    let here = Url::from_directory_path(std::env::current_dir().ok()?).ok()?;
    if relative { here.join(path).ok()?.to_file_path().ok() } else { None }
}

fn s3(url: &str, options: &[(String, String)]) -> Result<object_store::aws::AmazonS3, StoreError> {
    let mut builder = AmazonS3Builder::new().with_url(url).with_retry(retry());
    for (name, value) in options.iter().filter(|(name, _)| name.starts_with("aws_")) {
        if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    refuse_plain_http(
        builder.get_config_value(&AmazonS3ConfigKey::Endpoint),
        builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)),
    )?;
    builder.build().map_err(|e| invalid(url, &e.to_string(), "check the URL and the AWS_… options"))
}

/// Without this the first request would fail, and be retried as if the network were at fault.
fn refuse_plain_http(endpoint: Option<String>, allow: Option<String>) -> Result<(), StoreError> {
    let Some(endpoint) = endpoint.filter(|e| e.starts_with("http://")) else { return Ok(()) };
    match allow.as_deref() {
        Some("true" | "1" | "on" | "yes" | "y") => Ok(()),
        _ => Err(invalid("AWS_ENDPOINT", &endpoint, "use https://, or set AWS_ALLOW_HTTP=true if that is meant")),
    }
}

fn gcs(url: &str, options: &[(String, String)]) -> Result<object_store::gcp::GoogleCloudStorage, StoreError> {
    let mut builder = GoogleCloudStorageBuilder::new().with_url(url).with_retry(retry());
    for (name, value) in options.iter().filter(|(name, _)| name.starts_with("google_")) {
        if let Ok(key) = name.parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    builder.build().map_err(|e| invalid(url, &e.to_string(), "check the URL and the GOOGLE_… options"))
}

fn azure(url: &str, options: &[(String, String)]) -> Result<object_store::azure::MicrosoftAzure, StoreError> {
    let mut builder = MicrosoftAzureBuilder::new().with_url(url).with_retry(retry());
    for (name, value) in options.iter().filter(|(name, _)| name.starts_with("azure_")) {
        if let Ok(key) = name.parse::<AzureConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    builder.build().map_err(|e| invalid(url, &e.to_string(), "check the URL and the AZURE_… options"))
}

/// Few retries inside the client: [`crate::Store`] retries on its own terms, and `check` must not hang for minutes.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

/// The error that names a URL without the user, password or query it may carry.
fn invalid(what: &str, found: &str, wanted: &str) -> StoreError {
    StoreError::Invalid { what: redacted(what), found: found.to_owned(), wanted: wanted.to_owned() }
}

/// `url` without credentials and query.
pub(crate) fn redacted(url: &str) -> String {
    let remote = Url::parse(url).ok().filter(|u| u.scheme() != "file");
    let Some(mut parsed) = remote else { return url.to_owned() };
    let _ = parsed.set_password(None); // fails only where there can be none
    parsed.set_query(None);
    // object_store's `az://container@account/…` has its container where others have a user: keep that.
    parsed.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(url: &str, options: &[(&str, &str)]) -> String {
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        backend(url, options).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_store_is_refused_by_name() {
        for url in ["", "data", "ftp://host/x", "http://host/x", "s3:///x", "file://host/x", "file:data", "file://"] {
            let message = fails(url, &[]);
            assert!(message.contains(url) && message.contains("file://./relative"), "{url:?}: {message}");
        }
    }

    #[test]
    fn a_plain_http_endpoint_needs_permission() {
        let message = fails("s3://bucket/x", &[("AWS_ENDPOINT", "http://127.0.0.1:1")]);
        assert!(message.contains("AWS_ALLOW_HTTP"), "{message}");
        let options = [("AWS_ENDPOINT", "http://127.0.0.1:1"), ("AWS_ALLOW_HTTP", "true"), ("TOKEN", "not ours")];
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        let (_, prefix) = backend("s3://bucket/a/b", options).unwrap();
        assert_eq!(prefix.as_ref(), "a/b");
    }

    #[test]
    fn a_bad_option_is_named() {
        let message = fails("s3://bucket/x", &[("AWS_ALLOW_HTTP", "perhaps")]);
        assert!(message.contains("perhaps"), "{message}");
    }

    #[test]
    fn local_paths_may_be_absolute_or_relative() {
        let here = std::env::current_dir().unwrap();
        let check = |rest: &str, wanted: PathBuf| assert_eq!(local_root(rest), Some(wanted), "{rest}");
        check("///a%20b/c", PathBuf::from("/a b/c"));
        check("/a/b", PathBuf::from("/a/b"));
        check("//./x/y", here.join("x/y"));
        check("./x", here.join("x"));
        check("//../x", here.parent().unwrap().join("x"));
    }

    #[test]
    fn credentials_do_not_reach_messages() {
        assert_eq!(redacted("s3://u:secret@bucket/p?sig=secret"), "s3://u@bucket/p");
    }
}
