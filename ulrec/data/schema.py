"""The names of columns, in one place."""

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
WEIGHT = "weight"

SCORE = "score"
RANK = "rank"

IMAGE = "image"
MASK = "mask"
PATH = "path"
NAME = "name"
CATEGORY = "category"
SUBCATEGORY = "subcategory"
CONCEPT = "concept"
SPLIT = "split"

METRIC = "metric"
ARM = "arm"
K = "k"
MEAN = "mean"
LOW = "low"
HIGH = "high"
NUM_USERS = "num_users"

TRAIN = "train"
HELDOUT = "heldout"
