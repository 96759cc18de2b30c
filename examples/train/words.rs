//! The words that the stories are made of.

/// Everybody with a name: (name, "she" or "he").
pub const PEOPLE: &[(&str, &str)] = &[
    ("Mary", "she"),
    ("Claire", "she"),
    ("Anna", "she"),
    ("Alice", "she"),
    ("Emma", "she"),
    ("Lucy", "she"),
    ("Sarah", "she"),
    ("Kate", "she"),
    ("Jane", "she"),
    ("Laura", "she"),
    ("Emily", "she"),
    ("Rose", "she"),
    ("Clara", "she"),
    ("Ruth", "she"),
    ("Nora", "she"),
    ("Ella", "she"),
    ("Julia", "she"),
    ("Grace", "she"),
    ("Helen", "she"),
    ("Amy", "she"),
    ("Sophie", "she"),
    ("Maria", "she"),
    ("Lily", "she"),
    ("Eva", "she"),
    ("John", "he"),
    ("Tom", "he"),
    ("Paul", "he"),
    ("James", "he"),
    ("Mark", "he"),
    ("Peter", "he"),
    ("David", "he"),
    ("Max", "he"),
    ("Simon", "he"),
    ("Jack", "he"),
    ("Sam", "he"),
    ("Ben", "he"),
    ("Adam", "he"),
    ("Luke", "he"),
    ("Henry", "he"),
    ("George", "he"),
    ("Oliver", "he"),
    ("Leo", "he"),
    ("Daniel", "he"),
    ("Michael", "he"),
    ("Robert", "he"),
    ("Frank", "he"),
    ("Martin", "he"),
    ("Arthur", "he"),
];

/// Where one can go to, after "to", "at" or "near".
pub const PLACES: &[&str] = &[
    "the store",
    "the shops",
    "the park",
    "the school",
    "the garden",
    "the house",
    "the market",
    "the river",
    "the station",
    "the office",
    "the hospital",
    "the restaurant",
    "the library",
    "the farm",
    "the beach",
    "the forest",
    "the museum",
    "the bakery",
    "the lake",
    "the church",
    "the castle",
    "the village",
    "the bridge",
    "the zoo",
];

/// What one can give: one thing, which "it" fits.
pub const GIFTS: &[&str] = &[
    "a bottle of milk",
    "a book",
    "a drink",
    "a ring",
    "a cup of tea",
    "a flower",
    "a letter",
    "a basket of apples",
    "a bone",
    "a cake",
    "a computer",
    "a snack",
    "a hat",
    "a picture",
    "a map",
    "a key",
    "a box of tools",
    "a loaf of bread",
    "a bag of nuts",
    "a bottle of water",
    "a pen",
    "a coat",
    "a ticket",
    "an old coin",
    "an apple",
    "a basketball",
    "a necklace",
    "a toy",
    "a piece of cake",
    "a pot of honey",
    "a box of pencils",
    "an egg",
    "a warm blanket",
    "a glass of juice",
    "a new bike",
    "a small stone",
];

/// What one can have, hold and carry.
pub const THINGS: &[&str] = &[
    "ball", "kite", "boat", "drum", "cup", "lamp", "bell", "bike", "doll", "chair", "spoon", "ladder", "clock", "bag",
    "pencil", "blanket", "basket", "wagon", "mirror", "candle", "whistle", "umbrella", "hat",
];

pub const COLOURS: &[&str] =
    &["red", "blue", "green", "yellow", "white", "black", "brown", "pink", "grey", "purple", "golden", "silver"];

pub const ANIMALS: &[&str] = &[
    "cat", "dog", "horse", "bird", "duck", "rabbit", "fox", "frog", "sheep", "goat", "mouse", "owl", "hen", "bear",
    "squirrel", "turtle", "goose", "elephant",
];

/// What one can eat and buy: some of it, without an article.
pub const FOODS: &[&str] = &[
    "apples", "pears", "bread", "cheese", "eggs", "butter", "honey", "soup", "rice", "carrots", "potatoes", "onions",
    "sugar", "salt", "cherries", "beans", "cookies", "plums", "nuts",
];

pub const DRINKS: &[&str] = &["milk", "tea", "juice", "water"];

/// What one takes on a journey.
pub const LUGGAGE: &[&str] = &[
    "a coat",
    "a map",
    "a blanket",
    "a book",
    "an umbrella",
    "a hat",
    "a lamp",
    "a pen",
    "a bottle of water",
    "a loaf of bread",
    "two apples",
    "three eggs",
    "a warm scarf",
    "a ball",
    "a towel",
    "a ticket",
    "some coins",
    "some cheese",
];

/// How a day can be.
pub const WEATHER: &[&str] =
    &["sunny", "cold", "windy", "rainy", "warm", "dark", "foggy", "snowy", "cloudy", "hot", "quiet", "stormy"];

pub const FEELINGS: &[&str] = &[
    "happy", "sad", "tired", "hungry", "afraid", "proud", "angry", "excited", "curious", "lonely", "thirsty", "busy",
    "worried", "glad",
];

pub const GOOD_FEELINGS: &[&str] = &["happy", "proud", "excited", "glad", "cheerful"];

pub const BAD_FEELINGS: &[&str] = &["sad", "afraid", "angry", "lonely", "worried"];

/// Where a thing can be.
pub const ROOMS: &[&str] = &[
    "under the bed",
    "behind the door",
    "on the table",
    "in the kitchen",
    "near the window",
    "in the box",
    "on the roof",
    "under the tree",
    "beside the fire",
    "in the cellar",
    "on the shelf",
    "behind the barn",
    "in the grass",
    "on the stairs",
];

/// People without a name, after "the".
pub const PERSONS: &[&str] =
    &["teacher", "farmer", "baker", "doctor", "driver", "neighbour", "king", "queen", "old man", "old woman"];

pub const DAYS: &[&str] = &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// One to twenty.
pub const NUMBERS: &[&str] = &[
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];
