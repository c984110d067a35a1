//! A fake of AWS KMS: what the emulators leave out, in memory, over plain HTTP.
//!
//! It follows the API reference in what it answers: key material ids, their list in pages,
//! rotations that take a while, and any error on command. It is strict in what it takes: an
//! operation that does not name its key, or has no encryption context, is refused. It keeps
//! data keys in a table instead of encrypting them, so that a blob is the one that it gave
//! out or none. Signatures are not checked.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bulla_core::DataKey;
use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Of the answers of AWS KMS.
pub(crate) const DATE: &str = "Sat, 05 Sep 2026 07:06:05 GMT";
const ACCOUNT: &str = "arn:aws:kms:eu-west-1:111122223333:key";
const ROTATIONS_MAX: usize = 25;
/// Of the list of key materials, so that a few are several pages.
const PAGE: usize = 2;

#[derive(Clone)]
pub(crate) struct Fake {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<String, Key>,
    wraps: HashMap<String, Wrap>,
    /// Answers everything, if it is set: status and body.
    answer: Option<(u16, String)>,
    /// Looks at a key until its rotation is over.
    rotation_takes: u32,
    /// Operations, in the order of their arrival.
    log: Vec<String>,
    /// Whether `ListKeyRotations` is allowed.
    lists: bool,
}

struct Key {
    status: &'static str,
    /// Ids and dates; the last but `pending` is the current one.
    materials: Vec<String>,
    /// Looks until the last material is current.
    pending: u32,
}

struct Wrap {
    key: String,
    material: String,
    context: Value,
    plaintext: String,
}

/// Name and message of an exception.
type Refusal = (&'static str, &'static str);

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State { lists: true, ..State::default() };
        let fake = Self { addr: listener.local_addr().unwrap(), state: Arc::new(state.into()) };
        let serving = fake.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let fake = serving.clone();
                // A client that goes away ends its connection, and nothing else.
                tokio::spawn(async move { fake.serve(stream).await.ok() });
            }
        });
        fake
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// A new key; its ARN.
    pub(crate) fn new_key(&self) -> String {
        let arn = format!("{ACCOUNT}/{}", unique("key"));
        let key = Key { status: "Enabled", materials: vec![unique("material")], pending: 0 };
        self.state.lock().unwrap().keys.insert(arn.clone(), key);
        arn
    }

    /// Answers every request with this exception, or by what it asks.
    pub(crate) fn refuse_all(&self, exception: Option<(u16, &str, &str)>) {
        let answer = exception.map(|(status, name, message)| {
            (status, json!({ "__type": name, "message": message }).to_string())
        });
        self.state.lock().unwrap().answer = answer;
    }

    /// Answers every request with these bytes.
    pub(crate) fn answer_all(&self, status: u16, body: &str) {
        self.state.lock().unwrap().answer = Some((status, body.to_owned()));
    }

    /// From now on a rotation is over after so many looks at the key.
    pub(crate) fn rotation_takes(&self, looks: u32) {
        self.state.lock().unwrap().rotation_takes = looks;
    }

    /// Denies the list of rotations from now on.
    pub(crate) fn deny_lists(&self) {
        self.state.lock().unwrap().lists = false;
    }

    /// The operations asked for since the last call of this.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut operation, mut length, mut line) = (String::new(), 0, String::new());
            loop {
                line.clear();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                let Some((name, value)) = line.trim_end().split_once(": ") else {
                    if line.trim_end().is_empty() {
                        break;
                    }
                    continue;
                };
                match name.to_ascii_lowercase().as_str() {
                    "x-amz-target" => {
                        operation = value.trim_start_matches("TrentService.").to_owned();
                    }
                    "content-length" => length = value.parse().unwrap(),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            let (status, body) = self.answer(&operation, &body);
            let id = unique("request");
            let head = format!(
                "HTTP/1.1 {status} Answer\r\nx-amzn-RequestId: {id}\r\nDate: {DATE}\r\n\
                 Content-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).await?;
        }
    }

    fn answer(&self, operation: &str, body: &[u8]) -> (u16, String) {
        let mut state = self.state.lock().unwrap();
        state.log.push(operation.to_owned());
        if let Some(answer) = &state.answer {
            return answer.clone();
        }
        let request: Value = serde_json::from_slice(body).unwrap();
        match state.perform(operation, &request) {
            Ok(answer) => (200, answer.to_string()),
            Err((name, message)) => {
                (400, json!({ "__type": name, "message": message }).to_string())
            }
        }
    }
}

impl State {
    fn perform(&mut self, operation: &str, request: &Value) -> Result<Value, Refusal> {
        match operation {
            "DescribeKey" => self.describe(request),
            "GenerateDataKey" => {
                if request["KeySpec"] != "AES_256" {
                    return Err(("ValidationException", "a key of 256 bits was expected"));
                }
                let key = DataKey::generate().unwrap();
                let plaintext = BASE64.encode(key.expose_secret());
                let (arn, context) = (usable(self, request, "KeyId")?, context(request, "")?);
                let (blob, material) = self.wrap(&arn, context, &plaintext);
                Ok(json!({
                    "KeyId": arn, "CiphertextBlob": blob, "Plaintext": plaintext,
                    "KeyMaterialId": material,
                }))
            }
            "Encrypt" => {
                let (arn, context) = (usable(self, request, "KeyId")?, context(request, "")?);
                let plaintext = request["Plaintext"].as_str().unwrap().to_owned();
                let (blob, _) = self.wrap(&arn, context, &plaintext);
                Ok(json!({ "KeyId": arn, "CiphertextBlob": blob }))
            }
            "Decrypt" => {
                let arn = usable(self, request, "KeyId")?;
                let wrap = self.unwrap(&arn, context(request, "")?, request)?;
                Ok(json!({
                    "KeyId": arn, "Plaintext": wrap.plaintext, "KeyMaterialId": wrap.material,
                }))
            }
            "ReEncrypt" => {
                let arn = usable(self, request, "SourceKeyId")?;
                let wrap = self.unwrap(&arn, context(request, "Source")?, request)?;
                let (plaintext, from) = (wrap.plaintext.clone(), wrap.material.clone());
                let target = usable(self, request, "DestinationKeyId")?;
                let (blob, to) = self.wrap(&target, context(request, "Destination")?, &plaintext);
                Ok(json!({
                    "KeyId": target, "SourceKeyId": arn, "CiphertextBlob": blob,
                    "SourceKeyMaterialId": from, "DestinationKeyMaterialId": to,
                }))
            }
            "RotateKeyOnDemand" => {
                let (arn, takes) = (usable(self, request, "KeyId")?, self.rotation_takes);
                let key = self.keys.get_mut(&arn).unwrap();
                if key.materials.len() > ROTATIONS_MAX {
                    return Err(("LimitExceededException", "no more on-demand rotations"));
                }
                key.materials.push(unique("material"));
                key.pending = takes;
                Ok(json!({ "KeyId": arn }))
            }
            "ListKeyRotations" if !self.lists => Err(("AccessDeniedException", "not authorized")),
            "ListKeyRotations" => self.list(request),
            "DisableKey" => self.set_status(request, "Disabled"),
            "EnableKey" => self.set_status(request, "Enabled"),
            "ScheduleKeyDeletion" => self.set_status(request, "PendingDeletion"),
            _ => Err(("UnknownOperationException", "the fake does not have this")),
        }
    }

    fn key(&mut self, request: &Value, field: &str) -> Result<(String, &mut Key), Refusal> {
        let arn = request[field].as_str().ok_or(("ValidationException", "the key is not named"))?;
        let key = self.keys.get_mut(arn).ok_or(("NotFoundException", "Invalid keyId"))?;
        Ok((arn.to_owned(), key))
    }

    fn set_status(&mut self, request: &Value, status: &'static str) -> Result<Value, Refusal> {
        self.key(request, "KeyId")?.1.status = status;
        Ok(json!({}))
    }

    fn describe(&mut self, request: &Value) -> Result<Value, Refusal> {
        let (arn, key) = self.key(request, "KeyId")?;
        let current = key.current().to_owned();
        key.pending = key.pending.saturating_sub(1);
        Ok(json!({ "KeyMetadata": {
            "Arn": arn, "KeyId": arn.rsplit('/').next(), "KeyState": key.status,
            "Enabled": key.status == "Enabled", "KeyUsage": "ENCRYPT_DECRYPT",
            "KeySpec": "SYMMETRIC_DEFAULT", "KeyManager": "CUSTOMER", "Origin": "AWS_KMS",
            "MultiRegion": false, "CreationDate": 1_700_000_000.0, "CurrentKeyMaterialId": current,
        }}))
    }

    /// Newest first, as nothing in the API reference says otherwise.
    fn list(&mut self, request: &Value) -> Result<Value, Refusal> {
        if request["IncludeKeyMaterial"] != "ALL_KEY_MATERIAL" {
            return Err(("ValidationException", "the first key material would be missing"));
        }
        let (_, key) = self.key(request, "KeyId")?;
        let current = key.current().to_owned();
        let mut entries: Vec<_> = key.materials.iter().enumerate().collect();
        entries.reverse();
        let from: usize = request["Marker"].as_str().map_or(0, |marker| marker.parse().unwrap());
        let page = entries.iter().skip(from).take(PAGE).map(|(at, id)| {
            let mut entry = json!({
                "KeyMaterialId": id,
                "KeyMaterialState": if **id == current { "CURRENT" } else { "NON_CURRENT" },
            });
            if *at > 0 {
                entry["RotationDate"] = json!(1_700_000_000.0 + *at as f64);
            }
            entry
        });
        let mut answer = json!({ "Rotations": page.collect::<Vec<_>>(), "Truncated": false });
        if from + PAGE < entries.len() {
            answer["Truncated"] = json!(true);
            answer["NextMarker"] = json!((from + PAGE).to_string());
        }
        Ok(answer)
    }

    fn wrap(&mut self, key: &str, context: Value, plaintext: &str) -> (String, String) {
        let material = self.keys[key].current().to_owned();
        let random = DataKey::generate().unwrap();
        let blob = BASE64.encode(&[&b"fake"[..], &random.expose_secret()[..]].concat());
        let wrap = Wrap {
            key: key.to_owned(),
            material: material.clone(),
            context,
            plaintext: plaintext.to_owned(),
        };
        self.wraps.insert(blob.clone(), wrap);
        (blob, material)
    }

    fn unwrap(&self, key: &str, context: Value, request: &Value) -> Result<&Wrap, Refusal> {
        let blob = request["CiphertextBlob"].as_str();
        let blob = blob.ok_or(("ValidationException", "there is no blob"))?;
        match self.wraps.get(blob) {
            Some(wrap) if wrap.key != key => {
                Err(("IncorrectKeyException", "The key ID in the request does not identify…"))
            }
            Some(wrap) if wrap.context == context => Ok(wrap),
            _ => Err(("InvalidCiphertextException", "")),
        }
    }
}

impl Key {
    fn current(&self) -> &str {
        &self.materials[self.materials.len() - 1 - usize::from(self.pending > 0)]
    }
}

/// The ARN in `field`, of a key that can be used.
fn usable(state: &mut State, request: &Value, field: &str) -> Result<String, Refusal> {
    let (arn, key) = state.key(request, field)?;
    match key.status {
        "Enabled" => Ok(arn),
        "Disabled" => Err(("DisabledException", "the key is disabled.")),
        _ => Err(("KMSInvalidStateException", "the key is pending deletion.")),
    }
}

fn context(request: &Value, whose: &str) -> Result<Value, Refusal> {
    let context = &request[format!("{whose}EncryptionContext")];
    if context["bulla-format"] != "1" {
        return Err(("ValidationException", "the encryption context is not Bulla's"));
    }
    Ok(context.clone())
}

fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
