//! What prompts for indirect object identification are made of.

/// Templates. Two names meet, then `{S}`, one of the two, gives something to the other. No template begins with a name:
/// there it would lack its leading space, and so be another token.
pub(super) const TEMPLATES: &[&str] = &[
    "When {1} and {2} came to the {place}, {S} gave a {object} to",
    "After {1} and {2} walked to the {place}, {S} handed a {object} to",
    "While {1} and {2} were waiting at the {place}, {S} offered a {object} to",
    "Then {1} and {2} met at the {place}. Later {S} showed a {object} to",
    "One morning {1} and {2} went to the {place}, and {S} brought a {object} to",
    "In the evening {1} and {2} looked at the {place}. After that {S} sold a {object} to",
    "Because {1} and {2} were at the {place} again, {S} wanted to give a {object} to",
    "Once {1} and {2} had a lot of fun at the {place}, and {S} decided to give a {object} to",
];

/// First names, about half of either kind.
pub(super) const NAMES: &[&str] = &[
    "Mary", "John", "Anna", "Tom", "Alice", "Paul", "Emma", "James", "Sarah", "Mark", "Kate", "Peter", "Jane", "David",
    "Laura", "Max", "Emily", "Simon", "Rose", "Jack", "Clara", "Sam", "Ruth", "Ben", "Nora", "Adam", "Ella", "Luke",
    "Julia", "Henry", "Grace", "George", "Helen", "Oliver", "Amy", "Leo", "Sophie", "Daniel", "Maria", "Michael",
    "Lily", "Robert", "Eva", "Frank", "Lucy", "Martin", "Claire", "Arthur", "Lisa", "Kevin", "Rachel", "Andrew",
    "Linda", "Steven", "Karen", "Brian", "Susan", "Jason", "Jessica", "Matthew",
];

/// Where they are.
pub(super) const PLACES: &[&str] = &[
    "store",
    "park",
    "school",
    "garden",
    "house",
    "market",
    "river",
    "station",
    "office",
    "hospital",
    "restaurant",
    "library",
    "farm",
    "beach",
    "forest",
    "museum",
    "bakery",
    "lake",
    "church",
    "castle",
    "village",
    "bank",
    "theater",
    "hotel",
];

/// What is given; none begins with a vowel, so that "a" fits.
pub(super) const OBJECTS: &[&str] = &[
    "book",
    "drink",
    "ring",
    "flower",
    "letter",
    "bone",
    "cake",
    "computer",
    "kiss",
    "snack",
    "hat",
    "picture",
    "map",
    "key",
    "ball",
    "box",
    "ticket",
    "necklace",
    "basketball",
    "phone",
    "coat",
    "bag",
    "pencil",
    "lamp",
];
