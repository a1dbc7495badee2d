"""What the feature store holds: the embeddings of ads and attributes, by the model that made them, which text came
under which id, and how far the ads of each source have drifted.

An embedding is the raw bytes of a float32 array [rows, dim]: an ad has a row for each of its sentences, an attribute has one.
Entities, views and sources are Feast's; `jobmatch.live.feature_store.EmbeddingStore` applies them, and so does `feast apply` in this folder.
"""

from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource, PushSource
from feast.types import Bytes, Float64, Int64, String
from feast.value_type import ValueType

TTL = timedelta(days=90)  # an ad that comes back later than this is embedded again

model = Entity(name="model", join_keys=["model_version"], value_type=ValueType.STRING, description="the model that made the embedding")
job = Entity(name="job", join_keys=["content_hash"], value_type=ValueType.STRING, description="an ad, by the sha256 of its text")
attribute = Entity(name="attribute", join_keys=["attribute_id"], value_type=ValueType.STRING, description="an attribute of the taxonomy")

embedding = [Field(name="embedding", dtype=Bytes), Field(name="rows", dtype=Int64)]

job_history = FileSource(
    name="job_history", path="data/job_embeddings", timestamp_field="event_timestamp", created_timestamp_column="created_timestamp"
)
job_push = PushSource(name="job_push", batch_source=job_history)
job_embeddings = FeatureView(name="job_embeddings", entities=[job, model], ttl=TTL, schema=embedding, source=job_push)

attribute_history = FileSource(
    name="attribute_history", path="data/attribute_embeddings", timestamp_field="event_timestamp", created_timestamp_column="created_timestamp"
)
attribute_push = PushSource(name="attribute_push", batch_source=attribute_history)
attribute_embeddings = FeatureView(name="attribute_embeddings", entities=[attribute, model], ttl=timedelta(0), schema=embedding, source=attribute_push)

ad = Entity(name="ad", join_keys=["job_id"], value_type=ValueType.STRING, description="an ad, by the id that it came under")
ad_history = FileSource(name="ad_history", path="data/ads", timestamp_field="event_timestamp", created_timestamp_column="created_timestamp")
ad_push = PushSource(name="ad_push", batch_source=ad_history)
ads = FeatureView(name="ads", entities=[ad], ttl=TTL, schema=[Field(name="content_hash", dtype=String)], source=ad_push)  # so that it can be erased

source = Entity(name="source", join_keys=["source"], value_type=ValueType.STRING, description="where ads come from; `all` is everything")
drift_history = FileSource(
    name="drift_history", path="data/drift", timestamp_field="event_timestamp", created_timestamp_column="created_timestamp"
)
drift_push = PushSource(name="drift_push", batch_source=drift_history)
drift_fields = [Field(name="p", dtype=Float64), Field(name="alarm", dtype=Int64), Field(name="figures", dtype=String)]  # figures: JSON, by statistic
drift = FeatureView(name="drift", entities=[source], ttl=timedelta(0), schema=drift_fields, source=drift_push)
