//! The public API, as any client sees it.

use anyhow::{Context as _, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A client that is logged in by an API key.
#[derive(Clone)]
pub struct Api {
    base: String,
    http: reqwest::Client,
    key: Option<String>,
}

impl Api {
    /// Logs in with a password and makes an API key for everything that follows.
    ///
    /// # Errors
    /// If the control plane says no.
    pub async fn log_in(base: &str, email: &str, password: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let login = http
            .post(format!("{base}/api/v1/session"))
            .json(&json!({ "email": email, "password": password }))
            .send()
            .await?;
        ensure!(login.status().is_success(), "log-in: {}", login.text().await?);
        let cookie = login.headers().get("set-cookie").context("no cookie")?.to_str()?;
        let cookie = cookie.split(';').next().context("an empty cookie")?.to_owned();
        let session: Value = login.json().await?;
        let csrf = session["csrf_token"].as_str().context("no CSRF token")?;
        let key = http
            .post(format!("{base}/api/v1/api-keys"))
            .header("cookie", cookie)
            .header("postern-csrf", csrf)
            .json(&json!({ "name": "client" }))
            .send()
            .await?;
        let key: Value = key.error_for_status()?.json().await?;
        let key = key["key"].as_str().context("no key")?.to_owned();
        Ok(Self { base: base.to_owned(), http, key: Some(key) })
    }

    /// Chooses the owner's password by a set-up link, then logs in with it.
    ///
    /// # Errors
    /// If the control plane says no.
    pub async fn set_up(
        base: &str,
        email: &str,
        secret: &str,
        password: &str,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let done = http
            .post(format!("{base}/api/v1/setup"))
            .json(&json!({ "secret": secret, "password": password }))
            .send()
            .await?;
        ensure!(done.status().is_success(), "set-up: {}", done.text().await?);
        Self::log_in(base, email, password).await
    }

    /// Sends a request and returns status and body, whatever they are.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// GET.
    ///
    /// # Errors
    /// If the answer is no success.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.success(Method::GET, path, None).await
    }

    /// POST.
    ///
    /// # Errors
    /// If the answer is no success.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.success(Method::POST, path, Some(body)).await
    }

    /// PUT.
    ///
    /// # Errors
    /// If the answer is no success.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.success(Method::PUT, path, Some(body)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// If the answer is no success.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.success(Method::DELETE, path, None).await
    }

    async fn success(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let (status, answer) = self.send(method.clone(), path, body).await?;
        if !status.is_success() {
            bail!("{method} {path}: {status} {answer}");
        }
        Ok(answer)
    }
}
