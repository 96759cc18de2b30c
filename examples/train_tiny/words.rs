//! The words that the stories are made of.

/// (name, "she" or "he").
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

/// Where one can go to.
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
];

/// What one can give.
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
    "a kiss",
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
];

pub const THINGS: &[&str] = &[
    "ball", "kite", "boat", "drum", "cup", "lamp", "bell", "bike", "doll", "chair", "spoon", "ladder", "clock", "bag",
    "pencil", "blanket", "basket", "wagon", "mirror", "candle", "whistle", "umbrella",
];

pub const COLOURS: &[&str] =
    &["red", "blue", "green", "yellow", "white", "black", "brown", "pink", "grey", "purple", "golden", "silver"];

pub const ANIMALS: &[&str] = &[
    "cat", "dog", "horse", "bird", "duck", "rabbit", "fox", "frog", "sheep", "goat", "mouse", "owl", "hen", "bear",
    "squirrel", "turtle",
];

pub const FOODS: &[&str] = &[
    "apples", "pears", "bread", "milk", "cheese", "eggs", "butter", "honey", "soup", "rice", "carrots", "potatoes",
    "onions", "tea", "sugar", "salt", "cherries", "beans", "cookies", "plums",
];

pub const WEATHER: &[&str] =
    &["sunny", "cold", "windy", "rainy", "warm", "dark", "foggy", "snowy", "cloudy", "hot", "quiet", "stormy"];

pub const FEELINGS: &[&str] =
    &["happy", "sad", "tired", "hungry", "afraid", "proud", "angry", "excited", "curious", "lonely", "thirsty", "busy"];

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
];

pub const DAYS: &[&str] = &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

pub const NUMBERS: &[&str] =
    &["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/// How a story begins.
pub const OPENINGS: &[&str] = &[
    "One day, {A} went to {place} with {B}.",
    "{A} and {B} were friends.",
    "Once upon a time there was a {Child} called {A}. {He} lived near {place}.",
    "It was a {weather} morning. {A} was at {place}.",
    "On {day}, {A} and {B} walked to {place}.",
    "{A} had a {colour} {thing}.",
    "There was a {animal} at {place}. It belonged to {A}.",
    "{A} woke up early. It was {weather} outside.",
    "{B} lived with {A} in a small house near {place}.",
    "A {colour} {animal} sat {room}.",
    "\"Good morning,\" said {A}. \"Good morning, {A},\" said {B}.",
    "{A} was very {feeling} that day.",
    "Every {day}, {A} took the {thing} to {place}.",
    "It was {day}. {B} was waiting for {A} at {place}.",
    "Long ago, a {animal} and a {animal2} lived near {place}.",
];

/// What happens next: each stands alone, and the scene keeps its people and things from one to the next.
pub const EVENTS: &[&str] = &[
    "{A} looked for the {thing}, but it was not there. \"Where is my {thing}?\" {he} asked. \"It is {room},\" said {B}.",
    "{B} found a {colour} {thing} {room}. {Bhe} gave the {thing} to {A}.",
    "{A} saw a {animal}. The {animal} was {colour2}. \"What a nice {animal}!\" said {A}.",
    "The {animal} ran to {place2}. {A} ran after the {animal}.",
    "\"I am {feeling},\" said {A}. \"Why are you {feeling}?\" asked {B}.",
    "\"Are you {feeling}?\" asked {B}. \"No, I am {feeling2},\" said {A}.",
    "{A} was {feeling} because the {thing} was broken. {B} helped {him} to mend the {thing}.",
    "Then they went to {place2}. It was {weather} there.",
    "{A} ate some {food} and {B} ate some {food2}.",
    "\"Do you like {food}?\" asked {A}. \"Yes, I like {food},\" said {B}, \"but I do not like {food2}.\"",
    "{A} told {B} a story about a {animal2}. {B} liked the story about the {animal2}.",
    "{A} put the {thing} {room}. Later {B} looked {room} and found the {thing}.",
    "{B} asked {A} for help. {A} was glad to help {Bhim}.",
    "The {animal} was {feeling}. {A} gave the {animal} some {food}. Then the {animal} was not {feeling} any more.",
    "{A} wanted to buy a {thing}. The {thing} cost {number} coins, and {he} had only {less} coins.",
    "{A} had {number} {thing2}s. {He} found one more. Now {he} had {more} {thing2}s.",
    "There were {number} {animal2}s near the water. One {animal2} went away. Then there were {less} {animal2}s.",
    "It began to rain. {A} and {B} ran to {place2}.",
    "\"Look at the {thing}!\" said {A}. \"It is {colour}.\" {B} looked at the {colour} {thing}.",
    "{A}'s {thing} was {colour}, and {B}'s {thing2} was {colour2}.",
    "{B} wrote {gift2} on a list. {A} read the list and laughed.",
    "{B} sang a song. {A} sang the song too.",
    "{A} said to {B}, \"Let us go to {place2}.\" So they went to {place2}.",
    "{C} came to {place} too. \"Hello, {C},\" said {A}. \"Hello, {A},\" said {C}.",
    "{A} gave {gift} to {B}. \"Thank you for {gift}, {A},\" said {B}.",
    "{B} showed {gift} to {C}, and {C} smiled.",
    "The {animal} slept {room}. The {animal2} slept {room2}.",
    "{A} waited for {number} hours, but {C} did not come.",
    "\"Who has the {thing}?\" asked {B}. \"{C} has it,\" said {A}. So {B} went to {C}.",
    "{B} dropped the {thing}. \"Be careful with the {thing}!\" said {A}.",
    "{A} opened the door and saw {C}. {C} had {gift} for {A}.",
    "They played with the {thing} until it was dark.",
    "{A} washed the {thing} and {B} cleaned the {thing2}.",
    "\"My name is {A},\" said {A}. \"My name is {C},\" said {C}.",
    "The {thing} was {colour}, the {thing2} was {colour2}. Which one was {colour}? The {thing} was {colour}.",
];

/// How a story ends.
pub const ENDINGS: &[&str] = &[
    "Then they went home.",
    "{A} was {feeling2} again.",
    "In the evening {A} and {B} went home.",
    "\"Good night, {B},\" said {A}. \"Good night, {A},\" said {B}.",
    "{A} never forgot that day at {place}.",
    "And the {animal} lived happily near {place}.",
    "\"Thank you, {B},\" said {A}.",
    "{B} was tired and fell asleep {room}.",
    "After that, {A} always took care of the {thing}.",
    "",
];

/// Sentences that bring two people on stage, for the indirect object: {A} and {B} in either order.
pub const MEETINGS: &[&str] = &[
    "After {A} and {B} went to {place},",
    "When {A} and {B} went to {place},",
    "Then, {A} and {B} went to {place}.",
    "{A} and {B} went to {place}, then",
    "{A} and {B} went to {place}.",
    "While {A} and {B} were working at {place},",
    "{A} and {B} had a lot of fun at {place}.",
    "Once {A} met {B} at {place},",
    "{A} came to {place} with {B}, and",
    "On {day}, {A} and {B} walked to {place}, and",
    "When {A} saw {B} at {place},",
    "{A} and {B} sat near {place}. After a while",
    "The {animal} followed {A} and {B} to {place}. There",
];

/// The parts of many more openings.
pub const BEFORE_MEETING: &[&str] = &[
    "One morning,",
    "Last {day},",
    "In the evening,",
    "Later,",
    "That day,",
    "It was {weather}.",
    "The {animal} slept {room}.",
    "\"Good morning,\" said {C}.",
    "{C} had a {colour} {thing}.",
    "It began to rain.",
    "Long ago,",
    "Every {day},",
    "The {thing} was {room}.",
    "Two friends lived near {place2}.",
    "Yesterday,",
];

pub const CONJUNCTIONS: &[&str] = &["After", "When", "While", "Once", "Because", "Before", "Since"];

pub const WAYS_TO_MEET: &[&str] = &[
    "{A} and {B} went to {place}",
    "{A} and {B} ran to {place}",
    "{A} and {B} were at {place}",
    "{A} and {B} met at {place}",
    "{A} and {B} played at {place}",
    "{A} and {B} talked near {place}",
    "{A} and {B} looked at {place}",
    "{A} and {B} stayed at {place}",
    "{A} and {B} worked at {place}",
    "{A} and {B} ate {food} at {place}",
    "{A} and {B} saw a {animal}",
    "{A} and {B} bought {food} and {food2}",
    "{A} and {B} were {feeling}",
    "{A} and {B} lived near {place}",
    "{A} and {B} had a {colour} {thing}",
    "{A} saw {B} at {place}",
    "{A} helped {B}",
    "{A} waited for {B} at {place}",
    "{A} walked with {B} to {place}",
    "{A} sat beside {B}",
    "{A} was a friend of {B}",
    "{A} told {B} a story",
    "{A} played with {B} near {place}",
    "{A} found {B} {room}",
    "{A} had {number} coins and {B} had {less}",
    "{A} liked {food} and {B} liked {food2}",
    "{A} asked {B} for help",
    "at {place} there were {A} and {B}",
    "the {animal} saw {A} and {B}",
    "{A}, who was {feeling}, met {B}",
];

pub const AFTER_PLACE: &[&str] =
    &["", "", "", " on {day}", " in the morning", " for {number} hours", " in the evening"];

pub const LINKS: &[&str] = &[
    ".",
    ". Later",
    ". There",
    ". In the end",
    ". After that",
    ", and",
    ", so",
    ", but",
    ". Soon",
    ". Now",
    ", and later",
    ". Then they went home, and",
    ". It was {weather}.",
    ". The {animal} ran away.",
];

/// Kept for measuring: no story or exercise in the training text uses these.
pub const HELD_OUT_MEETINGS: &[&str] = &[
    "As {A} and {B} walked near {place},",
    "One day {A} and {B} came to {place}, and then",
    "{A} and {B} were waiting at {place} on {day}. Then",
    "While {A} was at {place} with {B},",
];

/// What the subject {S} does, up to where the other one is named.
pub const GIVINGS: &[&str] = &[
    "{S} gave {gift} to",
    "{S} wanted to give {gift} to",
    "{S} decided to give {gift} to",
    "{S} handed {gift} to",
    "{S} showed {gift} to",
    "{S} sent {gift} to",
    "{S} sold {gift} to",
    "{S} brought {gift} to",
    "{S} offered {gift} to",
    "{S} threw {gift} to",
    "{S} said goodbye to",
    "{S} told a story to",
];

/// After the other one ({O}) is named.
pub const THANKS: &[&str] = &[
    ".",
    ".",
    ". {O} said, \"Thank you, {S}.\"",
    ". {O} thanked {S}.",
    ". \"Thank you,\" said {O}.",
    " at {place2}.",
    ", and {O} was {feeling}.",
    ". Then {O} gave {gift2} to {S}.",
    " and went home.",
];
