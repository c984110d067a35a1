//! A fake of the one thing that Vault wants of a Kubernetes cluster: TokenReview. It checks
//! method, path, reviewer and body, and knows one service account, `orders` in `shop`.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Starts it; its address. `reviewer` may ask, and `known` is the token that is valid.
pub(crate) async fn start(reviewer: String, known: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = answer(stream, &reviewer, &known).await;
        }
    });
    address
}

async fn answer(stream: TcpStream, reviewer: &str, known: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut len) = (String::new(), 0);
    loop {
        let begin = head.len();
        stream.read_line(&mut head).await?;
        let line = head[begin..].trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            len = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = head.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews ")
        && review["spec"].as_object().is_some_and(|spec| spec.len() == 1)
        && head.lines().any(|line| line == format!("Authorization: Bearer {reviewer}"));
    let (status, answer) = match (asked, review["spec"]["token"] == *known) {
        (false, _) => ("403 Forbidden", json!({ "kind": "Status", "status": "Failure" })),
        (true, false) => ("201 Created", reviewed(&json!({ "authenticated": false }))),
        (true, true) => {
            let user = json!({
                "username": "system:serviceaccount:shop:orders",
                "uid": "uid-1",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:shop"],
            });
            ("201 Created", reviewed(&json!({ "authenticated": true, "user": user })))
        }
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all((head + &answer).as_bytes()).await
}

fn reviewed(status: &Value) -> Value {
    json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status })
}
