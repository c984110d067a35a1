//! Requests and answers: the client of vaultrs, sending in such a way that key material is
//! wiped where this crate can reach it.

use async_trait::async_trait;
use bulla_backend::note_request_id;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use rustify::client::Client;
use rustify::endpoint::{Endpoint, MiddleWare};
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use serde::{Deserialize, Serialize};
use vaultrs::client::VaultClient;
use zeroize::Zeroizing;

use crate::failure::Failure;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Vault Agent can be told to refuse requests without it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Longest answer that is read, in bytes: the longest request that Vault takes.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// First size of the buffer for an answer that does not tell its length, in bytes.
const ANSWER_BYTES_FIRST: usize = 4096;

/// The way to one Vault. It has no token; each request brings its own.
pub(crate) struct Wire {
    client: VaultClient,
    /// Address and API version.
    base: String,
}

impl Wire {
    pub(crate) fn new(client: VaultClient) -> Self {
        let base = client.settings.address.as_str().trim_end_matches('/');
        let base = format!("{base}/v{}", client.settings.version);
        Self { client, base }
    }

    /// Sends one request and reads its answer. Whatever is no success is a [`Failure`],
    /// except partial successes of a batch.
    pub(crate) async fn exchange<E: Endpoint>(
        &self,
        endpoint: E,
        headers: &Headers,
    ) -> Result<Reply, Failure> {
        let answer = endpoint.with_middleware(headers).exec(self).await;
        let mut answer = answer.map_err(|error| Failure::sending(&error))?.response;
        let body = Zeroizing::new(std::mem::take(answer.body_mut()));
        Reply::new(answer.status(), body)
    }
}

/// As the client of rustify, but: request bodies are wiped, answers are read into memory
/// that will be, and an answer that is no success is an answer. (rustify's own makes an
/// error of it, which has the body in it.)
#[async_trait]
impl Client for Wire {
    fn base(&self) -> &str {
        &self.base
    }

    async fn execute(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        self.send(request).await
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        let (method, url) = (request.method().to_string(), request.uri().to_string());
        let request = request.map(|body| Bytes::from_owner(Zeroizing::new(body)));
        let request = reqwest::Request::try_from(request)
            .map_err(|source| ClientError::ReqwestBuildError { source })?;
        let mut answer = match self.client.http.http.execute(request).await {
            Ok(answer) => answer,
            Err(error) => {
                return Err(ClientError::RequestError { source: error.into(), url, method });
            }
        };
        let status = answer.status();
        let len = answer.content_length().and_then(|len| usize::try_from(len).ok());
        let mut body = Wiped::with_capacity(len.unwrap_or(ANSWER_BYTES_FIRST));
        let broken = |error: reqwest::Error| ClientError::ResponseError { source: error.into() };
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if !body.push(&chunk) {
                let error = std::io::Error::other("the answer is too long");
                return Err(ClientError::ResponseError { source: error.into() });
            }
        }
        let mut response = Response::new(std::mem::take(&mut *body.0));
        *response.status_mut() = status;
        Ok(response)
    }
}

/// A buffer that wipes what it outgrows, which a `Vec` does not.
struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    fn with_capacity(len: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(len.min(ANSWER_BYTES_MAX))))
    }

    /// Appends, unless it gets too long.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let len = self.0.len() + bytes.len();
        if len > ANSWER_BYTES_MAX {
            return false;
        }
        if len > self.0.capacity() {
            let mut larger = Self::with_capacity(2 * len);
            larger.0.extend_from_slice(&self.0);
            *self = larger;
        }
        self.0.extend_from_slice(bytes);
        true
    }
}

/// What each request says in its head: on whose behalf, and in which namespace.
#[derive(Clone, Default)]
pub(crate) struct Headers {
    token: Option<HeaderValue>,
    namespace: Option<HeaderValue>,
}

impl Headers {
    pub(crate) fn new(namespace: Option<&str>) -> Result<Self, Failure> {
        let namespace = namespace.map(HeaderValue::from_str).transpose();
        let namespace = namespace.map_err(|_| Failure::misconfigured("this is no namespace"))?;
        Ok(Self { token: None, namespace })
    }

    /// The same with a token, which is wiped when the last copy of it is dropped.
    pub(crate) fn with_token(&self, token: Zeroizing<Vec<u8>>) -> Result<Self, Failure> {
        let mut token = HeaderValue::from_maybe_shared(Bytes::from_owner(token))
            .map_err(|_| Failure::misconfigured("the token has characters that none has"))?;
        token.set_sensitive(true);
        Ok(Self { token: Some(token), ..self.clone() })
    }

    /// The token of these with the namespace of `other`.
    pub(crate) fn in_namespace_of(&self, other: &Self) -> Self {
        Self { token: self.token.clone(), namespace: other.namespace.clone() }
    }
}

impl MiddleWare for Headers {
    fn request<E: Endpoint>(
        &self,
        _: &E,
        request: &mut Request<Vec<u8>>,
    ) -> Result<(), ClientError> {
        let headers = request.headers_mut();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        for (name, value) in [(TOKEN, &self.token), (NAMESPACE, &self.namespace)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
        Ok(())
    }

    fn response<E: Endpoint>(&self, _: &E, _: &mut Response<Vec<u8>>) -> Result<(), ClientError> {
        Ok(())
    }
}

/// A request that vaultrs does not have, or has with key material in plain strings.
///
/// Not by rustify's derive: what that serialises, it copies twice and wipes never.
pub(crate) struct Call<'a, B> {
    method: RequestMethod,
    path: &'a str,
    query: Option<&'a str>,
    body: Option<&'a B>,
}

impl<'a, B> Call<'a, B> {
    pub(crate) fn post(path: &'a str, body: &'a B) -> Self {
        Self { method: RequestMethod::POST, path, query: None, body: Some(body) }
    }
}

impl<'a> Call<'a, ()> {
    /// A request without a body.
    pub(crate) fn bare(method: RequestMethod, path: &'a str) -> Self {
        Self { method, path, query: None, body: None }
    }

    /// The same with parameters, as they stand behind the `?`.
    pub(crate) fn with_query(mut self, query: &'a str) -> Self {
        self.query = Some(query);
        self
    }
}

impl<B: Serialize + Sync> Endpoint for Call<'_, B> {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.to_owned()
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn query(&self) -> Result<Option<String>, ClientError> {
        Ok(self.query.map(str::to_owned))
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        let failed =
            |error: serde_json::Error| ClientError::DataParseError { source: error.into() };
        let Some(body) = self.body else { return Ok(None) };
        // Measured first, so that the buffer does not grow and leave copies behind.
        let mut len = Length(0);
        serde_json::to_writer(&mut len, body).map_err(failed)?;
        let mut bytes = Vec::with_capacity(len.0);
        serde_json::to_writer(&mut bytes, body).map_err(failed)?;
        Ok(Some(bytes))
    }
}

/// Counts what is written.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An answer, wiped on drop.
pub(crate) struct Reply(Zeroizing<Vec<u8>>);

/// What is common to all answers. Data is borrowed, not copied.
#[derive(Deserialize)]
struct Frame<'a, T> {
    #[serde(borrow)]
    request_id: Option<&'a str>,
    data: Option<T>,
    auth: Option<T>,
    /// In every refusal of Vault, be it empty.
    errors: Option<Vec<String>>,
}

impl Reply {
    fn new(status: StatusCode, body: Zeroizing<Vec<u8>>) -> Result<Self, Failure> {
        let frame = serde_json::from_slice::<Frame<'_, serde::de::IgnoredAny>>(&body).ok();
        if let Some(id) = frame.as_ref().and_then(|frame| frame.request_id) {
            note_request_id(id);
        }
        // A batch of which some items failed has the status of one of them.
        let partial = frame.as_ref().is_some_and(|frame| frame.data.is_some());
        if status.is_success() || partial {
            return Ok(Self(body));
        }
        Err(match frame.and_then(|frame| frame.errors) {
            Some(errors) => Failure::answered(status, &errors),
            None => Failure::not_of_vault(status),
        })
    }

    /// The data of the answer.
    pub(crate) fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        self.part(|frame| frame.data)
    }

    /// The outcome of a login.
    pub(crate) fn auth<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        self.part(|frame| frame.auth)
    }

    /// All of an answer that has no frame.
    pub(crate) fn whole<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.0).map_err(|_| Failure::strange("has not the expected form"))
    }

    fn part<'a, T: Deserialize<'a>>(
        &'a self,
        part: impl FnOnce(Frame<'a, T>) -> Option<T>,
    ) -> Result<T, Failure> {
        // The parser's own words would quote the answer.
        let frame = serde_json::from_slice(&self.0).ok();
        frame.and_then(part).ok_or_else(|| Failure::strange("has not the expected form"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_written_once_where_they_stay() {
        let body = vec!["a".repeat(5000), "\n".repeat(100)];
        let sent = Call::post("any", &body).body().unwrap().unwrap();
        assert_eq!(sent.len(), sent.capacity(), "the buffer has grown, and left a copy behind");
        assert_eq!(serde_json::from_slice::<Vec<String>>(&sent).unwrap(), body);
        assert!(Call::bare(RequestMethod::GET, "any").body().unwrap().is_none());
    }

    /// What a load balancer says is not what Vault says: it must not end a key's use.
    #[test]
    fn refusals_that_are_not_of_vault_are_outages() {
        use bulla_backend::KmsErrorKind as Kind;
        let kind = |status: u16, body: &str| {
            let body = Zeroizing::new(body.as_bytes().to_vec());
            let status = StatusCode::from_u16(status).unwrap();
            Reply::new(status, body).err().map(|failure| failure.kind())
        };
        for body in ["<h1>default backend</h1>", r#"{"status": 404}"#, ""] {
            for status in [400, 401, 403, 404, 502] {
                assert_eq!(kind(status, body), Some(Kind::Unavailable), "{status} {body}");
            }
            assert_eq!(kind(429, body), Some(Kind::Throttled));
            assert_eq!(kind(307, body), Some(Kind::Misconfigured));
        }
        let of_vault = r#"{"errors": []}"#;
        assert_eq!(kind(404, of_vault), Some(Kind::NotFound));
        assert_eq!(kind(403, of_vault), Some(Kind::Denied));
    }

    #[test]
    fn answers_of_any_length_are_collected_up_to_a_limit() {
        let mut body = Wiped::with_capacity(1);
        for _ in 0..1000 {
            assert!(body.push(b"0123456789"));
        }
        assert_eq!(*body.0, b"0123456789".repeat(1000));
        assert!(!body.push(&vec![0; ANSWER_BYTES_MAX]));
        assert!(Wiped::with_capacity(usize::MAX).0.capacity() <= ANSWER_BYTES_MAX);
    }

    #[test]
    fn answers_are_parsed_without_repeating_them() {
        let reply = |status, body: &[u8]| Reply::new(status, Zeroizing::new(body.to_vec()));
        for body in
            [&b""[..], b"<html>s.hush</html>", b"{\"data\":{\"plaintext\":7,\"x\":\"s.hush\"}}"]
        {
            let answer = reply(StatusCode::OK, body).ok().unwrap();
            let failure = answer.data::<crate::transit::Output<'_>>().map(|_| ()).unwrap_err();
            assert!(!format!("{failure:?}").contains("hush"), "{failure:?}");
        }
        let html = reply(StatusCode::BAD_GATEWAY, b"<html>s.hush</html>").map(|_| ()).unwrap_err();
        assert_eq!(html.kind(), bulla_backend::KmsErrorKind::Unavailable);
        assert!(!format!("{html:?}").contains("hush"));
    }

    #[test]
    fn tokens_are_never_shown() {
        let headers = Headers::new(Some("team")).unwrap();
        let headers = headers.with_token(Zeroizing::new(b"s.hush".to_vec())).unwrap();
        assert!(!format!("{:?}", headers.token).contains("hush"));
        assert!(headers.with_token(Zeroizing::new(b"a\nb".to_vec())).is_err());
    }
}
