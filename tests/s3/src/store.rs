//! Objects in a folder. Reading is `s3s-fs`; writing goes through a staging folder.
//!
//! `s3s-fs` 0.14 keeps an object's metadata in a file named by the base64 of bucket and key. A bundle key with UUIDs for tenant and extension has
//! 179 bytes, the name 283, and file names end at 255: every upload of a real tenant would fail. So an object is written under a short name in a
//! store of its own and then renamed to its place; `s3s-fs` reads objects that have no metadata file. What is lost is metadata that nobody here
//! reads (content type and the like).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, GetBucketLocationInput, GetBucketLocationOutput, GetObjectInput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput,
    ListBucketsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output,
    PutObjectInput, PutObjectOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;

/// The short names inside a staging folder.
const STAGED_BUCKET: &str = "staged";
const STAGED_KEY: &str = "object";

/// Multipart uploads begun and not ended; clients here upload one bundle at a time.
const MAX_UPLOADS: usize = 64;

/// A folder as an S3 store.
pub(super) struct FolderStore {
    buckets: PathBuf,
    staging: PathBuf,
    fs: FileSystem,
    uploads: Mutex<HashMap<String, Arc<Staged>>>,
}

/// A store for one object that is being written; its folder goes when it is dropped.
struct Staged {
    dir: TempDir,
    fs: FileSystem,
}

impl FolderStore {
    /// Opens (or makes) the store. What an earlier process left half-written is removed.
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        let (buckets, staging) = (root.join("buckets"), root.join("staging"));
        match std::fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", staging.display()));
            }
            _ => {}
        }
        for dir in [&buckets, &staging] {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let fs = FileSystem::new(&buckets)
            .map_err(|error| anyhow::anyhow!("cannot open {}: {error:?}", buckets.display()))?;
        Ok(Self { buckets, staging, fs, uploads: Mutex::default() })
    }

    /// Makes a bucket if it is not there.
    pub(super) fn make_bucket(&self, bucket: &str) -> anyhow::Result<()> {
        let path = self.buckets.join(bucket);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))
    }

    fn stage(&self) -> S3Result<Staged> {
        let dir = TempDir::new_in(&self.staging).map_err(internal)?;
        std::fs::create_dir(dir.path().join(STAGED_BUCKET)).map_err(internal)?;
        let fs = FileSystem::new(dir.path())
            .map_err(|error| S3Error::with_message(S3ErrorCode::InternalError, format!("{error:?}")))?;
        Ok(Staged { dir, fs })
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.buckets.join(bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// Where an object is kept. A key that a path would read differently is refused; bucket names are checked by s3s.
    fn place(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let plain =
            |segment: &str| !segment.is_empty() && !matches!(segment, "." | "..") && !segment.contains('\0');
        if !key.split('/').all(plain) {
            return Err(s3_error!(InvalidArgument, "A key is made of segments, none empty, `.` or `..`"));
        }
        self.check_bucket(bucket)?;
        Ok(self.buckets.join(bucket).join(key))
    }

    fn upload(&self, id: &str) -> S3Result<Arc<Staged>> {
        self.uploads.lock().get(id).cloned().ok_or_else(|| s3_error!(NoSuchUpload))
    }
}

impl Staged {
    /// Moves the finished object to its place, replacing what is there in one step.
    fn publish(&self, place: &Path) -> S3Result<()> {
        let written = self.dir.path().join(STAGED_BUCKET).join(STAGED_KEY);
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(internal)?;
        }
        std::fs::rename(written, place).map_err(internal)
    }
}

fn internal(error: io::Error) -> S3Error {
    S3Error::with_source(S3ErrorCode::InternalError, Box::new(error))
}

#[async_trait::async_trait]
impl S3 for FolderStore {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        self.fs.create_bucket(req).await.map_err(|error| match error.code() {
            // There is one user, so it is his; `mc mb --ignore-existing` tolerates only this code.
            S3ErrorCode::BucketAlreadyExists => s3_error!(BucketAlreadyOwnedByYou),
            _ => error,
        })
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let place = self.place(&req.input.bucket, &req.input.key)?;
        if req.input.if_match.take().is_some() {
            return Err(s3_error!(NotImplemented, "If-Match is not supported by the development store"));
        }
        if req.input.if_none_match.take().is_some() && place.exists() {
            return Err(s3_error!(PreconditionFailed));
        }
        let staged = self.stage()?;
        req.input.bucket = STAGED_BUCKET.to_owned();
        req.input.key = STAGED_KEY.to_owned();
        let output = staged.fs.put_object(req).await?;
        staged.publish(&place)?;
        Ok(output)
    }

    async fn create_multipart_upload(
        &self,
        mut req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.place(&req.input.bucket, &req.input.key)?;
        let staged = self.stage()?;
        let bucket = std::mem::replace(&mut req.input.bucket, STAGED_BUCKET.to_owned());
        let key = std::mem::replace(&mut req.input.key, STAGED_KEY.to_owned());
        let mut output = staged.fs.create_multipart_upload(req).await?;
        let id = output.output.upload_id.clone().ok_or_else(|| s3_error!(InternalError))?;
        output.output.bucket = Some(bucket);
        output.output.key = Some(key);
        let mut uploads = self.uploads.lock();
        if uploads.len() >= MAX_UPLOADS {
            return Err(s3_error!(SlowDown, "Too many uploads have been begun and not ended"));
        }
        uploads.insert(id, Arc::new(staged));
        Ok(output)
    }

    async fn upload_part(
        &self,
        mut req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let staged = self.upload(&req.input.upload_id)?;
        req.input.bucket = STAGED_BUCKET.to_owned();
        req.input.key = STAGED_KEY.to_owned();
        staged.fs.upload_part(req).await
    }

    async fn complete_multipart_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let id = req.input.upload_id.clone();
        let place = self.place(&req.input.bucket, &req.input.key)?;
        let staged = self.upload(&id)?;
        let bucket = std::mem::replace(&mut req.input.bucket, STAGED_BUCKET.to_owned());
        let key = std::mem::replace(&mut req.input.key, STAGED_KEY.to_owned());
        let mut output = staged.fs.complete_multipart_upload(req).await?;
        // The answer is given in a future so that a slow server can keep the connection alive; here it is there already.
        if let Some(answer) = output.output.future.take() {
            output = S3Response::new(answer.await?);
        }
        staged.publish(&place)?;
        self.uploads.lock().remove(&id);
        output.output.bucket = Some(bucket);
        output.output.key = Some(key);
        Ok(output)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        match self.uploads.lock().remove(&req.input.upload_id) {
            Some(_) => Ok(S3Response::new(AbortMultipartUploadOutput::default())),
            None => Err(s3_error!(NoSuchUpload)),
        }
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.check_bucket(&req.input.bucket)?;
        self.fs.get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.check_bucket(&req.input.bucket)?;
        self.fs.head_object(req).await
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.fs.delete_object(req).await
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.check_bucket(&req.input.bucket)?;
        self.fs.delete_objects(req).await
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.fs.get_bucket_location(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.fs.head_bucket(req).await
    }

    async fn list_buckets(
        &self,
        req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        self.fs.list_buckets(req).await
    }

    async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        self.fs.list_objects(req).await
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.fs.list_objects_v2(req).await
    }
}
