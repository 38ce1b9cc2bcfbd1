"""The names of columns, in one place."""

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
WEIGHT = "weight"

SCORE = "score"
RANK = "rank"

REWARD = "reward"
PROPENSITY = "propensity"
PROBABILITY = "probability"

IMAGE = "image"
CLIP = "clip"
MASK = "mask"
PATH = "path"
MEDIA_COLUMNS = (IMAGE, CLIP, PATH)
NAME = "name"
CATEGORY = "category"
SUBCATEGORY = "subcategory"
CONCEPT = "concept"
SPLIT = "split"
NUM_FRAMES = "num_frames"
DURATION_MS = "duration_ms"

METRIC = "metric"
ARM = "arm"
ESTIMATOR = "estimator"
K = "k"
MEAN = "mean"
LOW = "low"
HIGH = "high"
NUM_USERS = "num_users"
VALUE = "value"

TRAIN = "train"
HELDOUT = "heldout"
